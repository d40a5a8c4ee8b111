//! Rules that compare with other data sets, and rules on files.

use hardtack_quality::Verdict;
use hardtack_test_support::TempLake;
use rstest::rstest;

use crate::{PEOPLE, frame, job, passes, rules_of};

const COUNTRIES: &str =
    "select * from (values ('CH', 'Bern', 9.0), ('FR', 'Paris', 68.0), (null, null, null)) as t(code, capital, people)";

async fn verdict(rule: &str) -> Verdict {
    let job = job();
    let (rows, countries, same) = (frame(&job, PEOPLE).await, frame(&job, COUNTRIES).await, frame(&job, PEOPLE).await);
    let fewer = frame(&job, "select 1 as id, 'Ada' as name, 99 as age").await;
    let rules = rules_of(rule).reference("countries", countries).reference("same", same).reference("fewer", fewer);
    rules.audit(&job, "people", rows).await.unwrap().verdicts.remove(0)
}

#[rstest]
#[case::row_count(r#"RowCountMatch "same" = 1.0"#, true)]
#[case::row_count_less(r#"RowCountMatch "countries" > 1.3"#, true)]
#[case::references(r#"ReferentialIntegrity "country" "countries.code" = 0.5"#, true)]
#[case::references_all(r#"ReferentialIntegrity "country" "countries.code" = 1.0"#, false)]
#[case::references_by_two(r#"ReferentialIntegrity "id,name" "same.{id,name}" = 1.0"#, true)]
#[case::references_widen(r#"ReferentialIntegrity "id" "fewer.id" = 0.25"#, true)]
#[case::schema(r#"SchemaMatch "same" = 1.0"#, true)]
#[case::schema_of_other_size(r#"SchemaMatch "countries" >= 0.0"#, false)]
#[case::aggregates(r#"AggregateMatch "sum(age)" "sum(same.age)" = 1.0"#, true)]
#[case::aggregates_not(r#"AggregateMatch "sum(age)" "avg(same.age)" = 3.0"#, true)]
#[case::data_set(r#"DatasetMatch "same" "name" = 1.0"#, true)]
#[case::data_set_without_unique_keys(r#"DatasetMatch "same" "id" = 1.0"#, false)]
#[case::data_set_by_columns(r#"DatasetMatch "fewer" "id,name" "age" = 0.0"#, true)]
#[case::data_set_by_same_columns(r#"DatasetMatch "fewer" "name" "id" = 0.25"#, true)]
#[case::sql(r#"CustomSql "select count(*) from primary p join countries c on p.country = c.code" = 2"#, true)]
#[case::no_alias(r#"RowCountMatch "contries" = 1.0"#, false)]
#[case::no_column(r#"ReferentialIntegrity "country" "countries.cod" = 1.0"#, false)]
#[tokio::test]
async fn a_rule_compares(#[case] rule: &str, #[case] expected: bool) {
    let verdict = verdict(rule).await;
    assert_eq!(passes(&verdict), expected, "{verdict:#?}");
}

#[tokio::test]
async fn what_is_missing_there_is_named() {
    let verdict = verdict(r#"ReferentialIntegrity "country" "countries.code" = 1.0"#).await;
    assert_eq!(verdict.examples, ["\"DE\""]);
}

#[rstest]
#[case::fresh(r#"FileFreshness "LAKE/in" > (now() - 24 hours)"#, true)]
#[case::old(r#"FileFreshness "LAKE/in" < (now() - 24 hours)"#, false)]
#[case::size(r#"FileSize "LAKE/in" < 1 KB"#, true)]
#[case::size_not(r#"FileSize "LAKE/in" > 5 B"#, false)]
#[case::size_share(r#"FileSize "LAKE/in" > 3 B with threshold > 0.3"#, true)]
#[case::size_of_a_file(r#"FileSize "LAKE/in/c.txt" > 3 B"#, true)]
#[case::different(r#"FileUniqueness "LAKE/in" between 0.3 and 0.4"#, true)]
#[case::sum(r#"FileMatch "LAKE/in/a.txt" in ["900150983cd24fb0d6963f7d28e17f72"] with hashAlgorithm = "MD5""#, true)]
#[case::sha(
    r#"FileMatch "LAKE/in/a.txt" in ["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]"#,
    true
)]
#[case::sum_not(r#"FileMatch "LAKE/in" in ["900150983cd24fb0d6963f7d28e17f72"] with hashAlgorithm = "MD5""#, false)]
#[case::same(r#"FileMatch "LAKE/in" "LAKE/in""#, true)]
#[case::same_not(r#"FileMatch "LAKE/in" "LAKE/in/a.txt""#, false)]
#[case::regex(r#"FileSize "LAKE/in" > 3 B with uriRegex = "c\.txt""#, true)]
#[case::none(r#"FileSize "LAKE/out" > 3 B"#, false)]
#[case::no_place(r#"FileSize > 3 B"#, false)]
#[tokio::test]
async fn a_rule_on_files(#[case] rule: &str, #[case] expected: bool) {
    let lake = TempLake::new();
    for (name, text) in [("a", "abc"), ("b", "abc"), ("c", "abcdef")] {
        lake.write(&format!("in/{name}.txt"), text);
    }
    // The clock of the machine, for the files have its times.
    let job = hardtack_core::JobContext::builder("job").build().unwrap();
    let rows = frame(&job, PEOPLE).await;
    let rule = rule.replace("LAKE", lake.path().to_str().unwrap());
    let verdict = rules_of(&rule).audit(&job, "people", rows).await.unwrap().verdicts.remove(0);
    assert_eq!(passes(&verdict), expected, "{verdict:#?}");
}
