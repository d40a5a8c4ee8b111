//! What awslabs/deequ expects of its own evaluation of DQDL (its tests `EvaluateDataQualitySpec`, `ColumnDataTypeSpec` and
//! `DataFreshnessSpec`), on data sets of our own with the same counts, shares and moments: a rule, whether it passes, and
//! hundredths of the value that it measures, cut off as there.

use hardtack_quality::Rules;
use rstest::rstest;

use crate::{frame, job, passes};

const LETTERS: &str =
    "select * from (values ('5', 'p', 's'), ('6', 'p', 's'), ('7', 'p', 's'), ('8', 'q', 't')) as t(item, a, b)";
const NUMBERS: &str = "select * from (values
    ('5', 1, 0, 0, null), ('6', 2, 0, 0, null), ('7', 3, 0, 0, null), ('8', 4, 5, 4, 5), ('9', 5, 6, 6, 6), ('10', 6, 7, 7, 7)
) as t(item, a, b, c, d)";
const WORDS: &str = "select * from (values ('oak', 1), ('elm', 2), ('yew', 3), ('cypress pine', 4)) as t(item, n)";
const STATES: &str =
    "select * from (values (1, 'Oregon', 'OR'), (2, 'Utah', 'UT'), (3, 'Ohio', 'OH'), (4, 'Iowa', 'IA'))
    as t(\"ID\", \"State Name\", \"Code\")";
const AMOUNTS: &str = "select * from (values (100.0, 200.0), (100.0, 200.0)) as t(x, y)";
const DAYS: &str =
    "select * from (values (1, '2022-02-01'), (2, '2022-03-01'), (3, '2022-04-01')) as t(id, \"Some Date\")";
const SOME_DAYS: &str = "select * from (values (1, '2022-02-01'), (2, null), (3, '2022-04-01')) as t(id, day)";
const TEXTS: &str = "select * from (values
    ('2023-01-01', '2023-01-01', '01-01-2023', '01-01-2023', '01/2023', '01-01', '11.5', '1'),
    ('2023-02-15', 'no date', '15-02-2023', '02-15-2023', '02/2023', '15-02', '12.0', '2'),
    ('2023-03-20', '2023-03-20', '20-03-2023', '03-20-2023', '03/2023', '20-03', '13.45', '3')
) as t(iso, mixed, dmy, mdy, my, dm, decimal, whole)";
/// One, two, three and five days before the time of the run.
const AGES: &str = "select * from (values
    (1, timestamp '2026-11-28T00:00:00'), (2, timestamp '2026-11-27T00:00:00'),
    (3, timestamp '2026-11-26T00:00:00'), (4, timestamp '2026-11-24T00:00:00')
) as t(id, seen)";
const FINALS: &str = "select * from (values
    (1, 'USA', 'AUS'), (2, 'GER', 'AUS'), (3, 'USA', null), (4, 'GER', null), (5, 'USA', 'USA')
) as t(id, winner, second)";

/// A rule, whether it passes, and hundredths of what it measures.
type Expectation = (&'static str, bool, Option<i64>);

#[rstest]
#[case::letters(LETTERS, &[
    ("RowCount < 10", true, Some(400)),
    ("ColumnCount = 3", true, Some(300)),
    ("ColumnCount = 10", false, Some(300)),
    (r#"Completeness "item" > 0.8"#, true, Some(100)),
    (r#"IsComplete "item""#, true, Some(100)),
    (r#"Uniqueness "item" = 1.0"#, true, Some(100)),
    (r#"IsUnique "item""#, true, Some(100)),
    (r#"IsPrimaryKey "item""#, true, None),
    (r#"CustomSql "select count(*) from primary" > 0"#, true, None),
    (r#"CustomSql "select count(*) from primary" > 4"#, false, None),
    (r#"ColumnLength "item" > 0"#, true, None),
    (r#"ColumnLength "item" > 5"#, false, None),
    (r#"ColumnLength "item" < 10"#, true, None),
    (r#"ColumnLength "item" between 0 and 10"#, true, None),
    (r#"ColumnLength "item" = 1"#, true, None),
    (r#"ColumnLength "item" in [1]"#, true, None),
    (r#"ColumnExists "item""#, true, None),
    (r#"ColumnExists "nothing""#, false, None),
    (r#"ColumnValues "a" in ["p", "q"]"#, true, None),
    (r#"(RowCount < 10) and (CustomSql "select count(*) from primary" > 0)"#, true, None),
])]
#[case::columns("select 1 as a, 2 as b, 3 as c, 4 as d", &[
    ("ColumnCount = 4", true, Some(400)),
    ("ColumnCount = 4.0", true, None),
    ("ColumnCount = 4.9", false, None),
    ("ColumnCount != 4", false, None),
    ("ColumnCount != 5", true, None),
    ("ColumnCount > 3.9", true, None),
    ("ColumnCount > 4", false, None),
    ("ColumnCount >= 4", true, None),
    ("ColumnCount >= 5.554", false, None),
    ("ColumnCount < 4", false, None),
    ("ColumnCount < 4.1", true, None),
    ("ColumnCount <= 4", true, None),
    ("ColumnCount <= 3", false, None),
    ("ColumnCount between 2 and 5", true, None),
    ("ColumnCount between 4 and 5", false, None),
    ("ColumnCount between 3 and 4", false, None),
    ("ColumnCount between 4 and 4", false, None),
    ("ColumnCount between 3.9 and 6", true, None),
    ("ColumnCount between -10 and 10", true, None),
    ("ColumnCount not between 4 and 5", true, None),
    ("ColumnCount not between 3 and 5", false, None),
    ("ColumnCount not between 4 and 4", true, None),
    ("ColumnCount not between -5 and -1", true, None),
    ("ColumnCount not in [1,4]", false, None),
    ("ColumnCount not in [1,2,3]", true, None),
    ("ColumnCount > -1", true, None),
    ("ColumnCount = -1", false, None),
    ("ColumnCount <= 999999999", true, None),
])]
#[case::numbers(NUMBERS, &[
    (r#"ColumnCorrelation "b" "c" > 0.8"#, true, Some(99)),
    (r#"DistinctValuesCount "b" = 4"#, true, Some(400)),
    (r#"Entropy "b" > 1"#, true, Some(124)),
    (r#"Mean "b" = 3"#, true, Some(300)),
    (r#"StandardDeviation "b" > 3"#, true, Some(305)),
    (r#"Sum "b" = 18"#, true, Some(1800)),
    (r#"UniqueValueRatio "b" > 0.7"#, true, Some(75)),
    (r#"IsPrimaryKey "b""#, false, None),
    (r#"IsPrimaryKey "b" where "a > 2""#, true, None),
    (r#"ColumnValues "a" > 0"#, true, None),
    (r#"ColumnValues "a" < 10"#, true, None),
    (r#"ColumnValues "a" between 0 and 7"#, true, None),
    (r#"ColumnValues "a" in [1, 2, 3, 4, 5, 6]"#, true, None),
    (r#"ColumnValues "a" not in [100, 200]"#, true, None),
    (r#"ColumnValues "a" > 100"#, false, None),
    (r#"ColumnValues "d" in [5, 6, 7, NULL]"#, true, None),
    (r#"(Mean "b" > 0) and (Sum "c" > 0)"#, true, None),
    (r#"(Mean "b" > 10) or (Sum "c" > 0)"#, true, None),
    (r#"(RowCount > 0) or ((IsComplete "b") and (IsUnique "b"))"#, true, None),
    (r#"(Mean "b" > 100) and (Sum "c" > 100)"#, false, None),
    (r#"(Mean "b" > 100) or (Sum "c" > 100)"#, false, None),
    (r#"((RowCount > 0) and (ColumnCount = 4)) or ((Mean "b" > 0) and (Sum "c" > 0))"#, true, None),
])]
#[case::words(WORDS, &[
    (r#"ColumnLength "item" not in [7]"#, true, None),
    (r#"ColumnLength "item" < 4 where "n < 4""#, true, None),
    (r#"ColumnLength "item" < 4"#, false, None),
    (r#"ColumnLength "item" between 1 and 4 where "n > 1 and n < 4""#, true, None),
])]
#[case::other_data(STATES, &[
    (r#"RowCountMatch "seven" >= 0.5"#, true, Some(57)),
    (r#"RowCountMatch "seven" between 0.5 and 0.6"#, true, None),
    (r#"RowCountMatch "seven" not between 0.8 and 0.9"#, true, None),
    (r#"RowCountMatch "seven" = 1.0"#, false, None),
    (r#"RowCountMatch "missing" >= 0.5"#, false, None),
    (r#"SchemaMatch "described" = 1.0"#, false, Some(66)),
    (r#"SchemaMatch "described" != 1.0"#, true, None),
    (r#"SchemaMatch "described" > 0.65"#, true, None),
    (r#"SchemaMatch "described" >= 0.67"#, false, None),
    (r#"SchemaMatch "described" < 0.7"#, true, None),
    (r#"SchemaMatch "described" between 0.6 and 0.7"#, true, None),
    (r#"SchemaMatch "described" not between 0.1 and 0.6"#, true, None),
    (r#"ReferentialIntegrity "Code" "some.Code" > 0.6"#, true, Some(75)),
    (r#"ReferentialIntegrity "Code" "some.Code" > 0.9"#, false, Some(75)),
    (r#"ReferentialIntegrity "Code" "codes.state_code" > 0.95"#, true, Some(100)),
    (r#"ReferentialIntegrity "State Name,Code" "mixed.{Name,Abbr}" = 0.5"#, true, Some(50)),
    (r#"ReferentialIntegrity "Code" "missing.Code" >= 0.9"#, false, None),
    (r#"ReferentialIntegrity "Cod" "some.Code" > 0.9"#, false, None),
    (r#"ReferentialIntegrity "Code" "some.Cod" > 0.9"#, false, None),
    (r#"DatasetMatch "same" "ID" >= 0.9"#, true, Some(100)),
    (r#"DatasetMatch "changed" "ID" >= 0.7"#, true, Some(75)),
    (r#"DatasetMatch "changed" "ID" > 0.9"#, false, Some(75)),
    (r#"DatasetMatch "renamed" "ID->Number" "State Name->Name" >= 0.9"#, true, Some(100)),
    (r#"DatasetMatch "renamed" "ID->Number,State Name->Name" "Code->Abbr" >= 0.9"#, true, Some(100)),
    (r#"DatasetMatch "missing" "ID" >= 0.9"#, false, None),
    (r#"DatasetMatch "renamed" "ID" >= 0.9"#, false, None),
    (r#"DatasetMatch "same" "ID" "missing->Code" >= 0.9"#, false, None),
    (r#"DatasetMatch "same" "ID" "Code->missing" >= 0.9"#, false, None),
])]
#[case::amounts(AMOUNTS, &[
    (r#"AggregateMatch "sum(x)" "sum(x)" = 1.0"#, true, Some(100)),
    (r#"AggregateMatch "sum(x)" "sum(more.x)" = 0.5"#, true, Some(50)),
    (r#"AggregateMatch "avg(x)" "avg(y)" = 0.5"#, true, Some(50)),
    (r#"AggregateMatch "sum(x)" "sum(more.x)" between 0.4 and 0.6"#, true, None),
    (r#"AggregateMatch "sum(x)" "sum(y)" > 0.9"#, false, Some(50)),
    (r#"AggregateMatch "sum(x)" "sum(missing.x)" > 0.5"#, false, None),
    (r#"AggregateMatch "sum(z)" "sum(x)" = 1.0"#, false, None),
    (r#"AggregateMatch "sum(x)" "sum(more.z)" > 0.5"#, false, None),
    (r#"AggregateMatch "avg(x)" "avg(nulls.x)" = 1.0"#, true, Some(100)),
])]
#[case::zero("select 0.0 as x", &[(r#"AggregateMatch "sum(x)" "sum(x)" = 1.0"#, true, Some(100))])]
#[case::no_amounts("select x from (select 1.0 as x) where x > 1", &[
    (r#"AggregateMatch "sum(x)" "sum(more.x)" = 1.0"#, false, None),
])]
#[case::only_nulls("select arrow_cast(null, 'Float64') as x", &[
    (r#"AggregateMatch "sum(x)" "sum(more.x)" > 0.5"#, false, None),
])]
#[case::days(DAYS, &[
    (r#"ColumnValues "Some Date" > "2022-01-01""#, true, None),
    (r#"ColumnValues "Some Date" < "2023-01-01""#, true, None),
    (r#"ColumnValues "Some Date" between "2022-01-01" and "2022-12-31""#, true, None),
    (r#"ColumnValues "Some Date" in ["2022-02-01", "2022-03-01", "2022-04-01"]"#, true, None),
    (r#"ColumnValues "Some Date" > "2023-01-01""#, false, None),
    (r#"ColumnValues "Some Date" > "2022-02-15" where "id > 1""#, true, None),
    (r#"ColumnValues "Some Date" < (now() - 1 days)"#, true, None),
])]
#[case::some_days(SOME_DAYS, &[
    (r#"ColumnValues "day" > "2022-01-01""#, false, None),
    (r#"ColumnValues "day" != "2099-01-01""#, true, None),
    (r#"ColumnValues "day" not in ["2099-01-01"]"#, true, None),
])]
#[case::types(TEXTS, &[
    (r#"ColumnDataType "iso" = "DATE""#, true, Some(100)),
    (r#"ColumnDataType "mixed" = "DATE""#, false, Some(66)),
    (r#"ColumnDataType "iso" = "DATE" with format = "yyyy-MM-dd""#, true, None),
    (r#"ColumnDataType "dmy" = "DATE" with format = "dd-MM-yyyy""#, true, None),
    (r#"ColumnDataType "mdy" = "DATE" with format = "MM-dd-yyyy""#, true, None),
    (r#"ColumnDataType "dmy" = "DATE""#, false, None),
    (r#"ColumnDataType "my" = "DATE" with format = "MM/yyyy""#, true, None),
    (r#"ColumnDataType "dm" = "DATE" with format = "dd-MM""#, true, None),
    (r#"ColumnDataType "iso" = "DATE" with format = "invalid-format""#, false, None),
    (r#"ColumnDataType "iso" = "DATE" with format = "dd-MM-yyyy""#, false, None),
    (r#"ColumnDataType "decimal" = "DOUBLE""#, true, None),
    (r#"ColumnDataType "iso" = "DOUBLE""#, false, None),
    (r#"ColumnDataType "whole" = "INTEGER""#, true, None),
])]
#[case::no_texts("select * from (select 'x' as day) where day = 'y'", &[
    (r#"ColumnDataType "day" = "DATE""#, true, None),
    (r#"DataFreshness "day" < 200 hours"#, true, None),
])]
#[case::ages(AGES, &[
    (r#"DataFreshness "seen" < 200 hours"#, true, Some(100)),
    (r#"DataFreshness "seen" between 12 hours and 60 hours"#, false, Some(50)),
    (r#"DataFreshness "seen" not between 50 hours and 90 hours"#, false, Some(75)),
    (r#"DataFreshness "seen" >= 50 hours"#, false, Some(50)),
    (r#"DataFreshness "seen" > 100 hours"#, false, Some(25)),
    (r#"DataFreshness "seen" > 4319 minutes"#, false, Some(50)),
    (r#"DataFreshness "seen" <= 30 hours"#, false, Some(25)),
    (r#"DataFreshness "seen" < 20 hours"#, false, Some(0)),
    (r#"DataFreshness "seen" = 24 hours"#, false, Some(25)),
    (r#"DataFreshness "seen" != 72 hours"#, false, Some(75)),
    (r#"DataFreshness "seen" not in [24 hours, 48 hours]"#, false, Some(50)),
    (r#"DataFreshness "seen" < 100 hours where "id > 2""#, false, Some(50)),
    (r#"DataFreshness "seen" < 100 hours where "id > 4""#, true, None),
    (r#"DataFreshness "seen" < 100 hours where "%%'' > %%%%""#, false, None),
])]
#[case::nulls_in_where(FINALS, &[
    (r#"ColumnValues "winner" in ["USA", "AUS"] where "second = 'AUS'" with threshold > 0.6"#, false, Some(50)),
])]
#[tokio::test]
async fn a_rule_does_what_deequ_expects(#[case] rows: &str, #[case] expectations: &[Expectation]) {
    let job = job();
    let others = [
        ("same", STATES),
        ("changed", "select \"ID\", \"State Name\", replace(\"Code\", 'IA', 'IOW') as \"Code\" from ("),
        ("renamed", "select \"ID\" as \"Number\", \"State Name\" as \"Name\", \"Code\" as \"Abbr\" from ("),
        ("described", "select 'x' as \"Description\", \"State Name\", \"Code\" from ("),
        ("some", "select \"Code\" from (select * from STATES) where \"Code\" <> 'IA'"),
        ("codes", "select \"Code\" as state_code from (select * from STATES) union all select 'XX'"),
        (
            "mixed",
            "select \"State Name\" as \"Name\", case when \"ID\" > 2 then 'XX' else \"Code\" end as \"Abbr\" from (",
        ),
        ("seven", "select value from generate_series(1, 7)"),
        ("more", "select * from (values (150.0), (250.0)) as t(x)"),
        ("nulls", "select * from (values (50.0), (null), (150.0)) as t(x)"),
    ];
    let mut differences = Vec::new();
    for (rule, passed, measured) in expectations {
        let mut rules = Rules::dqdl(&format!("Rules = [{rule}]"));
        for (alias, sql) in others {
            let sql = sql.replace("select * from STATES", STATES);
            let sql = if sql.ends_with('(') { format!("{sql}{STATES})") } else { sql };
            rules = rules.reference(alias, frame(&job, &sql).await);
        }
        let audit = rules.audit(&job, "rows", frame(&job, rows).await).await.unwrap();
        let verdict = &audit.verdicts[0];
        if passes(verdict) != *passed {
            differences.push(format!("{rule}: {verdict:?}"));
        }
        let hundredths: Vec<i64> = audit.metrics.values().map(|value| (value * 100.0 + 1e-9) as i64).collect();
        if measured.is_some_and(|measured| hundredths != [measured]) {
            differences.push(format!("{rule} measures {:?}", audit.metrics));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
