//! Random tokens: whatever they are, they do not panic, and what parses prints as what parses to the same.

use hardtack_dqdl::parse;

/// Words that the grammar knows, and others.
const TOKENS: &[&str] = &[
    "Rules",
    "Analyzers",
    "Metadata",
    "DataSources",
    "DefaultLabels",
    "=",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ",",
    ":",
    "$",
    "!",
    "<",
    ">",
    ">=",
    "<=",
    "+",
    "-",
    "*",
    "/",
    "and",
    "or",
    "AND",
    "OR",
    "of",
    "between",
    "in",
    "not",
    "matches",
    "where",
    "with",
    "threshold",
    "labels",
    "NULL",
    "EMPTY",
    "whitespaces_only",
    "now()",
    "days",
    "hours",
    "minutes",
    "B",
    "GB",
    "last",
    "avg",
    "index",
    "percentile",
    "abs",
    "median",
    "0",
    "1",
    "42",
    "-0.5",
    "3.25",
    "\"a\"",
    "\"a,b\"",
    "\"r.{a,b}\"",
    "\"a->b\"",
    "\"sum(r.a)\"",
    "\"2024-02-29\"",
    "\"9:30 AM\"",
    "\"[a-z]+\\\"\"",
    "\"\\\\\"",
    "\"Version\"",
    "\"Primary\"",
    "x",
    "v",
    "order.id",
    "RowCount",
    "ColumnCount",
    "IsComplete",
    "IsUnique",
    "IsPrimaryKey",
    "Completeness",
    "Uniqueness",
    "ColumnValues",
    "ColumnLength",
    "ColumnDataType",
    "ColumnExists",
    "ColumnNamesMatchPattern",
    "ColumnCorrelation",
    "DataFreshness",
    "ReferentialIntegrity",
    "DatasetMatch",
    "SchemaMatch",
    "RowCountMatch",
    "AggregateMatch",
    "CustomSql",
    "DetectAnomalies",
    "AllStatistics",
    "AllColumns",
    "FileFreshness",
    "FileMatch",
    "FileUniqueness",
    "FileSize",
    "Mean",
    "Skewness",
    "DuplicateRowCount",
    "timeZone",
    "\"",
    "'",
    "#",
    "\n",
    "ä",
    "\u{a0}",
];

/// Documents that are changed.
const DOCUMENTS: &[&str] = &[
    "Rules = [ IsComplete \"id\" , IsUnique a and b , RowCount > avg ( last ( 10 ) ) * 0.8 + ( 1 - 2 ) ]",
    "Metadata = { \"Version\" : \"1\" } DataSources = { \"Primary\" : \"a\" } DefaultLabels = [ \"k\" = \"v\" ] Rules = [ \
     ColumnValues \"a\" in [ 1 , NULL ] where \"b\" labels = [ \"l\" = \"w\" ] with threshold > 0.5 ] Analyzers = [ RowCount ]",
    "v = \"a\" x = [ \"a\" , NULL ] Rules = [ ColumnValues $v not in $x , ( RowCount > 1 or IsComplete $v ) and ( \
     ColumnValues a matches \"[a-z]+\" ) ]",
    "Rules = [ FileFreshness > ( now() - 3 days ) with timeZone = \"UTC\" , FileSize between 1 B and 2 GB , \
     ColumnValues a between \"2024-02-29\" and now() , DataFreshness a <= 3 hours , FileMatch in [ \"a\" ] ]",
    "Rules = [ ReferentialIntegrity \"a,b\" \"r.{a,b}\" = 1 , DatasetMatch r \"a->b\" = 1 , AggregateMatch \"sum(r.a)\" \
     \"sum(r.a)\" > 0 , CustomSql \"a\" , DetectAnomalies of Completeness of a ] Analyzers = [ AllStatistics of AllColumns ]",
];

/// SplitMix64: fast, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    /// A token that begins like another one, mostly: a text for a text, a word for a word.
    fn alike(&mut self, token: &str) -> &'static str {
        let class = |token: &str| {
            token.bytes().next().map(|byte| match byte {
                b'A'..=b'Z' => 'A',
                b'a'..=b'z' => 'a',
                b'0'..=b'9' => '0',
                other => char::from(other),
            })
        };
        let choices = [(); 8].map(|()| TOKENS[self.below(TOKENS.len())]);
        choices.into_iter().find(|choice| class(choice) == class(token)).unwrap_or(choices[0])
    }
}

/// Tries that many documents with some tokens inserted, removed, replaced or exchanged; says how many of them parsed.
fn try_tokens(count: u64, seed: u64) -> u64 {
    let mut random = Random(seed);
    let mut parsed = 0;
    let documents: Vec<Vec<&str>> = DOCUMENTS.iter().map(|text| text.split(' ').collect()).collect();
    let (mut tokens, mut text) = (Vec::new(), String::new());
    for _ in 0..count {
        tokens.clone_from(&documents[random.below(documents.len())]);
        for _ in 0..=random.below(2) {
            let at = random.below(tokens.len());
            match random.below(8) {
                0 => tokens.insert(at, TOKENS[random.below(TOKENS.len())]),
                1 => drop(tokens.remove(at)),
                3 | 4 => {
                    let other = random.below(tokens.len());
                    tokens.swap(at, other);
                }
                2 => {
                    let other = &documents[random.below(documents.len())];
                    let from = random.below(other.len());
                    let to = from + random.below((other.len() - from).min(8) + 1);
                    tokens.splice(at..at, other[from..to].iter().copied());
                }
                _ => tokens[at] = random.alike(tokens[at]),
            }
            if tokens.is_empty() {
                break;
            }
        }
        text.clear();
        for token in &tokens {
            text.push_str(token);
            text.push(' ');
        }
        match parse(&text) {
            Ok(set) => {
                parsed += 1;
                let printed = set.to_string();
                match parse(&printed) {
                    Ok(again) => assert_eq!(again, set, "{text}"),
                    Err(error) => panic!("{text} prints as {printed}: {error}"),
                }
            }
            Err(error) => assert!(error.line() > 0 && !error.message().is_empty(), "{text}"),
        }
    }
    parsed
}

/// `HARDTACK_DQDL_DOCUMENTS=10000000 cargo test --release -p hardtack-dqdl changed_tokens` tries more of them: a minute.
#[test]
#[expect(clippy::disallowed_methods, reason = "how long a test takes is not its input")]
fn changed_tokens_parse_as_they_print_or_are_refused() {
    let count = std::env::var("HARDTACK_DQDL_DOCUMENTS").map_or(20_000, |count| count.parse().unwrap());
    let parsed = try_tokens(count, 1);
    assert!((count / 20..count / 2).contains(&parsed), "{parsed} of {count} parse");
}
