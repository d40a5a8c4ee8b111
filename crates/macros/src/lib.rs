//! Compile-time checks of hardtack's macros. Users see them through `hardtack_catalog::schema!`.

mod check;

use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

use crate::check::{Token, check};

/// Turns the columns of a `schema!` into a text, or into a compile error that points at the fault.
#[doc(hidden)]
#[proc_macro]
pub fn check_schema(columns: TokenStream) -> TokenStream {
    let (mut tokens, mut spans) = (Vec::new(), Vec::new());
    flatten(columns.clone(), &mut tokens, &mut spans);
    match check(&tokens) {
        Ok(()) => call("stringify", columns, Span::call_site()),
        // Something missing at the end is reported at the last token.
        Err(wrong) => {
            error(&wrong.message, spans.get(wrong.at).or(spans.last()).copied().unwrap_or_else(Span::call_site))
        }
    }
}

/// All tokens with their spans, including brackets.
fn flatten(stream: TokenStream, tokens: &mut Vec<Token>, spans: &mut Vec<Span>) {
    for tree in stream {
        let token = match tree {
            TokenTree::Ident(ref ident) => Token::Word(ident.to_string()),
            TokenTree::Punct(ref punct) => Token::Symbol(punct.as_char()),
            TokenTree::Literal(ref literal) => {
                let text = literal.to_string();
                let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).map(str::to_owned);
                quoted.map_or(Token::Word(text), Token::Quoted)
            }
            TokenTree::Group(group) => {
                let brackets = match group.delimiter() {
                    Delimiter::Parenthesis => Some(('(', ')')),
                    Delimiter::Brace => Some(('{', '}')),
                    Delimiter::Bracket => Some(('[', ']')),
                    // Invisible delimiters: another macro has put them around its argument.
                    Delimiter::None => None,
                };
                if let Some((open, _)) = brackets {
                    tokens.push(Token::Symbol(open));
                    spans.push(group.span_open());
                }
                flatten(group.stream(), tokens, spans);
                if let Some((_, close)) = brackets {
                    tokens.push(Token::Symbol(close));
                    spans.push(group.span_close());
                }
                continue;
            }
        };
        tokens.push(token);
        spans.push(tree.span());
    }
}

/// `::core::compile_error! { "message" }` at a span.
fn error(message: &str, span: Span) -> TokenStream {
    let mut text = Literal::string(message);
    text.set_span(span);
    let error = call("compile_error", TokenStream::from(TokenTree::Literal(text)), span);
    let at_the_place = |mut tree: TokenTree| {
        tree.set_span(span);
        tree
    };
    error.into_iter().map(at_the_place).collect()
}

/// `::core::name! { arguments }`.
fn call(name: &str, arguments: TokenStream, span: Span) -> TokenStream {
    let colons = || [Spacing::Joint, Spacing::Alone].map(|spacing| TokenTree::Punct(Punct::new(':', spacing)));
    let ident = |name| TokenTree::Ident(Ident::new(name, span));
    let mut trees = Vec::from(colons());
    trees.push(ident("core"));
    trees.extend(colons());
    trees.push(ident(name));
    trees.push(TokenTree::Punct(Punct::new('!', Spacing::Alone)));
    trees.push(TokenTree::Group(Group::new(Delimiter::Parenthesis, arguments)));
    trees.into_iter().collect()
}
