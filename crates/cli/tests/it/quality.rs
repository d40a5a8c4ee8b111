//! `hardtack audit`, `hardtack quality` and the table `hardtack.verdicts`.

use std::path::Path;

use hardtack_core::{Context, Location, Result};
use hardtack_quality::{Rules, WithRules};
use hardtack_runtime::{Bars, Job, RuntimeArgs, execute};
use hardtack_sinks::ParquetDataset;
use insta::assert_snapshot;

use crate::hardtack;

const RULES: &str = r#"Rules = [IsComplete "name", RowCount > avg(last(2)) * 0.5, IsUnique "id" labels = ["severity" = "warn"]]
    Analyzers = [Completeness "name"]"#;

/// Saves people to `lake/people` by a run of the job `people`.
async fn save(folder: &Path, people: &str) -> Result<()> {
    let lake = Location::from(folder).join("lake/people");
    let main = async |ctx: &Context<()>| {
        let rows = ctx.session().sql(&format!("select * from (values {people}) as t(id, name)")).await?;
        let sink = ParquetDataset::new("people", lake.clone()).overwrite();
        ctx.save(sink.audited(Rules::dqdl(RULES)), rows).await
    };
    let options = RuntimeArgs::with_state(Location::from(folder).join("state"));
    execute(&Job::new("people"), (), &options, main, &Bars::new(false)).await.map(|_| ())
}

fn run(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    hardtack(folder, &[&["--state", "state"], args].concat())
}

/// The output without ids, times and the folder.
fn plain(folder: &Path, said: &str) -> String {
    let said = said.replace(folder.to_str().unwrap(), "FOLDER");
    let said = regex::Regex::new(r"\d{8}T\d{6}Z-[0-9a-f]{8}").unwrap().replace_all(&said, "RUN").into_owned();
    regex::Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").unwrap().replace_all(&said, "TIME").into_owned()
}

#[tokio::test]
async fn verdicts_are_a_table_and_numbers_have_a_history() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    save(folder, "(1, 'Ada'), (2, 'Bob'), (3, 'Cy'), (3, 'Di')").await.unwrap();
    let error = save(folder, "(1, 'Ada'), (2, null)").await.unwrap_err();
    assert_snapshot!(error.message(), @"2 of 3 rules failed for `people`");
    save(folder, "(1, 'Ada'), (2, 'Bob'), (3, 'Cy')").await.unwrap();
    // Half of what there was, and a run that failed does not count.
    let error = save(folder, "(1, 'Ada')").await.unwrap_err();
    assert_snapshot!(error.get("failed").unwrap(), @"rule 2: RowCount > avg(last(2)) * 0.5 (1, expected > 1.75)");

    let query = "select job, status, subject, rows, rule_number as nr, outcome, severity, actual, expected, failed_rows, examples
        from hardtack.verdicts order by started_at, nr";
    let (code, said) = run(folder, &["sql", "-c", query]);
    assert_eq!(code, Some(0), "{said}");
    assert_snapshot!(said, @"
      job   |  status   | subject | rows | nr | outcome | severity |      actual      |   expected   | failed_rows | examples
    --------+-----------+---------+------+----+---------+----------+------------------+--------------+-------------+----------
     people | succeeded | people  |    4 |  1 | passed  | block    | 0 of 4 rows fail | no row fails |           0 | NULL
     people | succeeded | people  |    4 |  2 | passed  | block    | 4                | > 0          |        NULL | NULL
     people | succeeded | people  |    4 |  3 | failed  | warn     | 2 of 4 rows fail | no row fails |           2 | 3
     people | failed    | people  |    2 |  1 | failed  | block    | 1 of 2 rows fail | no row fails |           1 | NULL
     people | failed    | people  |    2 |  2 | failed  | block    | 2                | > 2          |        NULL | NULL
     people | failed    | people  |    2 |  3 | passed  | warn     | 0 of 2 rows fail | no row fails |           0 | NULL
     people | succeeded | people  |    3 |  1 | passed  | block    | 0 of 3 rows fail | no row fails |           0 | NULL
     people | succeeded | people  |    3 |  2 | passed  | block    | 3                | > 2          |        NULL | NULL
     people | succeeded | people  |    3 |  3 | passed  | warn     | 0 of 3 rows fail | no row fails |           0 | NULL
     people | failed    | people  |    1 |  1 | passed  | block    | 0 of 1 rows fail | no row fails |           0 | NULL
     people | failed    | people  |    1 |  2 | failed  | block    | 1                | > 1.75       |        NULL | NULL
     people | failed    | people  |    1 |  3 | passed  | warn     | 0 of 1 rows fail | no row fails |           0 | NULL
    (12 rows)
    ");

    let (code, said) = run(folder, &["quality", "history", "lake/people", "--metric", "completeness"]);
    assert_eq!(code, Some(0), "{said}");
    assert_snapshot!(plain(folder, &said), @"
    Column.name.Completeness
           started        |  job   |            run            | value |
    ----------------------+--------+---------------------------+-------+--------------------------------
     TIME | people | RUN |     1 | ██████████████████████████████
     TIME | people | RUN |     1 | ██████████████████████████████
    ");
    let (code, said) = run(folder, &["quality", "history", "lake/nobody"]);
    assert_eq!(code, Some(2), "{said}");
}

#[tokio::test]
async fn what_is_published_is_audited() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    save(folder, "(1, 'Ada'), (2, 'Bob'), (3, 'Cy'), (3, 'Di')").await.unwrap();
    std::fs::write(folder.join("good.dqdl"), r#"Rules = [IsComplete "id", ReferentialIntegrity "id" "all.id" = 1.0]"#)
        .unwrap();
    std::fs::write(folder.join("bad.dqdl"), r#"Rules = [IsUnique "id", ColumnLength "name" > 2, Mean "nane" > 0]"#)
        .unwrap();
    std::fs::write(folder.join("wrong.dqdl"), "Rules = [IsUniqe \"id\"]").unwrap();

    let (code, said) = run(folder, &["audit", "lake/people", "--rules", "good.dqdl", "--reference", "all=lake/people"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(folder, &["audit", "lake/people", "--rules", "bad.dqdl"]);
    assert_eq!(code, Some(3), "{said}");
    assert_snapshot!(plain(folder, &said), @r#"
    audit  lake/people: 4 rows, 0 of 3 rules passed
         outcome  rule                     actual                                           expected
      1  FAILED   IsUnique "id"            2 of 4 rows fail; such as 3                      no row fails
      2  FAILED   ColumnLength "name" > 2  2 of 4 rows fail; such as "Cy", "Di"             no row fails
      3  ERROR    Mean "nane" > 0          there is no column `nane`; did you mean `name`?
    "#);
    let (code, said) = run(folder, &["audit", "lake/people", "--rules", "wrong.dqdl"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("did you mean `IsUnique`") && said.contains("wrong.dqdl"), "{said}");
    let (code, said) = run(folder, &["audit", "lake/people", "--rules", "none.dqdl"]);
    assert_eq!(code, Some(2), "{said}");
}

/// What is proposed can be read, and the same rows meet it.
#[tokio::test]
async fn rules_are_proposed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rows = (0..30).map(|i| format!("({i}, '{}')", if i % 3 == 0 { "a" } else { "b" }));
    save(folder, &rows.collect::<Vec<_>>().join(", ")).await.unwrap();
    let (code, said) = run(folder, &["quality", "recommend", "lake/people"]);
    assert_eq!(code, Some(0), "{said}");
    assert_snapshot!(said, @r#"
    # Proposed from lake/people. Read each rule: it says what is, not what should be.
    Rules = [
        RowCount between 14 and 46,
        IsComplete "id",
        IsUnique "id",
        ColumnValues "id" between -1 and 32,
        IsComplete "name",
        ColumnValues "name" in ["a", "b"]
    ]
    "#);
    std::fs::write(folder.join("rules.dqdl"), said).unwrap();
    let (code, said) = run(folder, &["audit", "lake/people", "--rules", "rules.dqdl"]);
    assert_eq!(code, Some(0), "{said}");
}

/// With `--quarantine` bad rows are set aside in the same transaction, if the rules allow some.
#[tokio::test]
async fn bad_rows_are_set_aside_in_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| Location::from(folder.path()).join(name);
    let mut options = RuntimeArgs::with_state(at("state"));
    options.audits.quarantine = Some(at("aside"));
    let save = async |people: &str, options: &RuntimeArgs| {
        let main = async |ctx: &Context<()>| {
            let rows = ctx.session().sql(&format!("select * from (values {people}) as t(id, name)")).await?;
            let rules = r#"Rules = [ColumnLength "name" > 2 with threshold >= 0.5]"#;
            ctx.save(ParquetDataset::new("people", at("lake")).overwrite().audited(rules), rows).await
        };
        execute(&Job::new("people"), (), options, main, &Bars::new(false)).await
    };
    let outcome = save("(1, 'Ada'), (2, 'Bo'), (3, 'Cyd')", &options).await.unwrap();
    assert_eq!(outcome.record.audits[0].quarantined, Some(1));
    assert_eq!(outcome.record.sinks["people"].rows, 2);
    assert_snapshot!(hardtack_files(folder.path(), "aside"), @"people: 1");
    // Too many are bad: neither the good nor the bad ones appear.
    assert!(save("(1, 'A'), (2, 'Bo'), (3, 'Cyd')", &options).await.is_err());
    assert_snapshot!(hardtack_files(folder.path(), "aside"), @"people: 1");

    options.audits.quarantine = Some(at("lake/aside"));
    let error = save("(1, 'Ada')", &options).await.unwrap_err();
    assert!(error.chain().contains("must be a folder of its own"), "{}", error.chain());
}

/// The folders in a folder, with the numbers of their visible files.
fn hardtack_files(folder: &Path, name: &str) -> String {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder.join(name)).unwrap() {
        let entry = entry.unwrap();
        let files = std::fs::read_dir(entry.path()).unwrap();
        let seen = files.filter(|file| !file.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count();
        found.push(format!("{}: {seen}", entry.file_name().to_string_lossy()));
    }
    found.sort();
    found.join(", ")
}

/// Whatever runs follow one another, what is published is what the last run that passed has saved.
#[tokio::test]
async fn what_is_published_has_passed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let deliveries = [
        ("(1, 'Ada')", true),
        ("(1, null)", false),
        ("(1, 'Ada'), (2, 'Bob'), (3, 'Cy')", true),
        ("(4, 'Di')", false),
        ("(4, 'Di'), (5, null), (6, 'Ed')", false),
        ("(4, 'Di'), (5, 'Ed')", true),
    ];
    let published = || {
        let (code, said) = run(folder, &["audit", "lake/people", "--rules", "count.dqdl", "--json"]);
        assert_eq!(code, Some(0), "{said}");
        said
    };
    std::fs::write(folder.join("count.dqdl"), "Rules = [RowCount > 0] Analyzers = [Sum \"id\", RowCount]").unwrap();
    let mut last = None;
    for (people, passes) in deliveries {
        let files = || {
            let mut files: Vec<_> = std::fs::read_dir(folder.join("lake/people")).into_iter().flatten().collect();
            files.sort_by_key(|file| file.as_ref().unwrap().file_name());
            let read = |file: std::io::Result<std::fs::DirEntry>| std::fs::read(file.unwrap().path()).unwrap();
            files.into_iter().map(read).collect::<Vec<_>>()
        };
        let before = files();
        assert_eq!(save(folder, people).await.is_ok(), passes, "{people}");
        if passes {
            let said = published();
            assert_ne!(Some(&said), last.as_ref());
            last = Some(said);
        } else {
            assert_eq!(files(), before, "{people}: byte for byte as it was");
            assert_eq!(Some(published()), last);
        }
    }
}
