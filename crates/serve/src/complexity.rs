//! Refuses statements that are too complex to be parsed or planned.
//!
//! Parser and planner are recursive: with too many levels the thread's stack overflows, and the server dies. And
//! `sqlparser` 0.61 parses the arguments of a function in PostgreSQL's dialect twice, so each nested call doubles the
//! time (<https://github.com/apache/datafusion-sqlparser-rs/pull/2392>). Neither can be cancelled. So levels are
//! counted beforehand; the tokens suffice for that.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use datafusion_postgres::pgwire::error::PgWireResult;

use crate::failure::error;

/// The maximum nesting of parentheses.
const PARENTHESES: usize = 24;
/// The maximum nesting of parentheses that follow a word, as in a call.
const CALLS: usize = 16;
/// How often the contents of such parentheses are parsed, in total.
const READINGS: usize = 1 << 18;
/// The maximum number of operators in a row, which make an expression as deep as it is long. (The time for planning is
/// quadratic in it.)
const OPERATORS: usize = 2000;
/// The maximum number of queries or tables in a row.
const RELATIONS: usize = 1000;

/// The state outside an open parenthesis.
#[derive(Default)]
struct Outside {
    is_call: bool,
    operators: usize,
    in_from: bool,
}

/// Refuses a statement that is too complex. Syntax errors are left to the parser.
pub(crate) fn check(statement: &str) -> PgWireResult<()> {
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, statement).tokenize() else { return Ok(()) };
    let mut open: Vec<Outside> = Vec::new();
    let (mut calls, mut readings, mut operators, mut relations) = (0_usize, 0_usize, 0, 0);
    let mut in_from = false;
    let mut last = Token::EOF;
    for token in tokens {
        let outside = || open.last().map_or(0, |outside| outside.operators);
        match &token {
            Token::Whitespace(_) => continue,
            Token::LParen => {
                let is_call = matches!(last, Token::Word(_));
                calls += usize::from(is_call);
                readings += if is_call { 1 << calls.min(CALLS) } else { 0 };
                open.push(Outside { is_call, operators, in_from });
                in_from = false;
            }
            Token::RParen => {
                let outside = open.pop().unwrap_or_default();
                (operators, in_from) = (outside.operators, outside.in_from);
                calls -= usize::from(outside.is_call);
            }
            // The next element of a list is no deeper than this one, except in a list of tables.
            Token::Comma => {
                operators = outside();
                relations += usize::from(in_from);
            }
            Token::SemiColon => (operators, relations, in_from) = (outside(), 0, false),
            Token::Word(word) => match word.keyword {
                Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT => {
                    relations += 1;
                    (operators, in_from) = (outside(), false);
                }
                Keyword::JOIN => relations += 1,
                Keyword::FROM => in_from = true,
                Keyword::WHERE | Keyword::GROUP | Keyword::HAVING | Keyword::ORDER | Keyword::LIMIT => in_from = false,
                keyword => operators += usize::from(is_operator(keyword)),
            },
            Token::LBracket => operators += 1,
            Token::Period => operators += usize::from(matches!(last, Token::RParen | Token::RBracket)),
            token => operators += usize::from(starts_operator(token)),
        }
        for (found, most, what, hint) in [
            (open.len(), PARENTHESES, "nested parentheses", "name parts of it with WITH"),
            (calls, CALLS, "nested calls or subqueries", "name parts of it with WITH"),
            (readings, READINGS, "readings of its nested calls", "split it, or name parts of it with WITH"),
            (operators, OPERATORS, "operators in a row", "list values with IN"),
            (relations, RELATIONS, "joined or united queries and tables", "split it"),
        ] {
            if found > most {
                let why = format!("the statement is too complex: there are more than {most} {what}; {hint}");
                return Err(error("54001", why));
            }
        }
        last = token;
    }
    Ok(())
}

fn is_operator(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::AND
            | Keyword::OR
            | Keyword::XOR
            | Keyword::NOT
            | Keyword::IS
            | Keyword::NOTNULL
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::RLIKE
            | Keyword::REGEXP
            | Keyword::SIMILAR
            | Keyword::MEMBER
            | Keyword::OVERLAPS
            | Keyword::OPERATOR
            | Keyword::BETWEEN
            | Keyword::COLLATE
            | Keyword::AT
            | Keyword::CASE
    )
}

fn starts_operator(token: &Token) -> bool {
    !matches!(token, Token::Number(..)) && token.to_string().starts_with(|first| "+-*/%|&^#~!@<>=:?".contains(first))
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

    fn tables(n: usize) -> String {
        format!("select 1 from {} where a in (1, 2)", vec!["t"; n].join(", "))
    }

    fn many(of: &str, n: usize) -> String {
        format!("select {}", vec![of; n].join(", "))
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
    #[case(chain("1", " notnull ", 2001), chain("1", " notnull ", 2002))]
    #[case(chain("true", " xor ", 2001), chain("true", " xor ", 2002))]
    #[case(chain("1", " operator(pg_catalog.+) ", 2000), chain("1", " operator(pg_catalog.+) ", 2002))]
    #[case(chain("(a)", ".b", 2001), chain("(a)", ".b", 2002))]
    #[case(chain("(a)", "[1]", 2001), chain("(a)", "[1]", 2002))]
    #[case(tables(1001), tables(1002))]
    #[case(many("f(f(f(f(f(f(f(f(f(f(1))))))))))", 128), many("f(f(f(f(f(f(f(f(f(f(1))))))))))", 129))]
    fn levels_are_counted(#[case] borne: String, #[case] refused: String) {
        check(&borne).unwrap();
        assert!(check(&refused).unwrap_err().to_string().contains("54001"));
    }

    #[rstest]
    #[case::a_long_list(format!("select 1 where 1 in ({})", vec!["-1"; 100_000].join(",")))]
    #[case::many_columns(format!("select {}", vec!["a::int + abs(b)"; 5000].join(", ")))]
    #[case::many_queries(vec!["select a from t where a = 1 and b = 2"; 900].join(" union all "))]
    #[case::many_statements("select 1 where a = 1 and b = 2 union select 3;".repeat(5000))]
    #[case::a_text(format!("select '{}'", "(+".repeat(5000)))]
    #[case::no_sql("select '".to_owned())]
    #[case::not_balanced(")))".to_owned())]
    fn length_does_not_matter(#[case] statement: String) {
        check(&statement).unwrap();
    }
}
