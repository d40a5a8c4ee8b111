//! Statements that are more than parsing and planning can bear.
//!
//! What looks at a statement calls itself for each level of it: too many levels, and the stack of the thread ends, and with
//! it the server. And `sqlparser` 0.61 reads the arguments of a function of PostgreSQL's dialect twice, so that each call
//! within a call takes twice the time (<https://github.com/apache/datafusion-sqlparser-rs/pull/2392>). Neither can be
//! cancelled. So levels are counted before; the tokens tell enough.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use datafusion_postgres::pgwire::error::PgWireResult;

use crate::failure::error;

/// Parentheses within one another.
const PARENTHESES: usize = 24;
/// Those of them that belong to a word, as those of a call do.
const CALLS: usize = 16;
/// Operators in a row, which make an expression as deep as it is long. (Planning takes time with their square.)
const OPERATORS: usize = 2000;
/// Queries and tables in a row.
const RELATIONS: usize = 1000;

/// Refuses what is too complex. What is no SQL is left to the parser.
pub(crate) fn check(statement: &str) -> PgWireResult<()> {
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, statement).tokenize() else { return Ok(()) };
    // Of each open parenthesis, whether it belongs to a word, and how many operators it is under.
    let mut open: Vec<(bool, usize)> = Vec::new();
    let (mut calls, mut operators, mut relations) = (0, 0, 0);
    let mut after_word = false;
    for token in tokens {
        match &token {
            Token::Whitespace(_) => continue,
            Token::LParen => {
                open.push((after_word, operators));
                calls += usize::from(after_word);
            }
            Token::RParen => {
                let (of_word, outside) = open.pop().unwrap_or_default();
                operators = outside;
                calls -= usize::from(of_word);
            }
            // The next of a list is no deeper than this one.
            Token::Comma => operators = open.last().map_or(0, |(_, outside)| *outside),
            Token::Word(word) if is_between_relations(word.keyword) => relations += 1,
            token => operators += usize::from(is_operator(token)),
        }
        after_word = matches!(token, Token::Word(_));
        for (found, most, what) in [
            (open.len(), PARENTHESES, "parentheses within one another"),
            (calls, CALLS, "calls within one another"),
            (operators, OPERATORS, "operators in a row (list values with IN)"),
            (relations, RELATIONS, "joined or united queries"),
        ] {
            if found > most {
                return Err(error("54001", format!("the statement is too complex: there are more than {most} {what}")));
            }
        }
    }
    Ok(())
}

fn is_between_relations(keyword: Keyword) -> bool {
    matches!(keyword, Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::JOIN)
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::CASE
        ),
        Token::Number(..) => false,
        token => token.to_string().starts_with(|first| "+-*/%|&^#~!@<>=:?".contains(first)),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn nested(before: &str, n: usize, after: &str) -> String {
        format!("select {}1{}", before.repeat(n), after.repeat(n))
    }

    fn chain(of: &str, with: &str, n: usize) -> String {
        format!("select 1 where {}", vec![of; n].join(with))
    }

    #[rstest]
    #[case(nested("(", 24, ")"), nested("(", 25, ")"))]
    #[case(nested("abs(", 16, ")"), nested("abs (", 17, ")"))]
    #[case(nested("cast(", 16, " as int)"), nested("cast(", 17, " as int)"))]
    #[case(chain("1", "+", 2001), chain("1", "+", 2002))]
    #[case(chain("a = 1", " or ", 1000), chain("a = 1", " or ", 1001))]
    #[case(chain("((a) || 'b')", " || ", 2000), chain("((a) || 'b')", " || ", 2001))]
    #[case(chain("1", "::int", 2001), chain("1", "::int", 2002))]
    #[case(chain("1", " union select 2, ", 1001), chain("1", " union select 2, ", 1002))]
    #[case(chain("1", " is null", 2001), chain("1", " is null", 2002))]
    fn levels_are_counted(#[case] borne: String, #[case] refused: String) {
        check(&borne).unwrap();
        assert!(check(&refused).unwrap_err().to_string().contains("54001"));
    }

    #[rstest]
    #[case::a_long_list(format!("select 1 where 1 in ({})", vec!["-1"; 100_000].join(",")))]
    #[case::many_columns(format!("select {}", vec!["a::int + abs(b)"; 5000].join(", ")))]
    #[case::a_text(format!("select '{}'", "(+".repeat(5000)))]
    #[case::no_sql("select '".to_owned())]
    #[case::not_balanced(")))".to_owned())]
    fn length_does_not_matter(#[case] statement: String) {
        check(&statement).unwrap();
    }
}
