//! The dialects of a table's text files: detected, set by options, stored in the description, and read back.

use hardtack_catalog::Catalog;
use hardtack_core::Location;
use hardtack_tables::{CrawlOptions, CsvHints, crawl};
use rstest::rstest;

use crate::crawling::{crawled, settled, sql, with};
use crate::world::{World, cells};

async fn world(files: &[(&str, &str)]) -> World {
    let world = World::new();
    for (name, text) in files {
        world.put(format!("memory:/t/{name}"), (*text).to_owned()).await;
    }
    world
}

async fn rows(world: &World) -> String {
    match cells_of(world).await {
        Ok(cells) => cells,
        Err(error) => error,
    }
}

async fn cells_of(world: &World) -> Result<String, String> {
    let rows = sql(&world.ctx, "select * from lake.t order by 1").await;
    // Errors are reported, too.
    rows.clone().collect().await.map_err(|e| hardtack_core::Error::from(e).to_string())?;
    Ok(cells(rows).await)
}

/// The dialect detected without options, the notes, and the rows of a query.
#[rstest]
#[case::years(
    &[("a.csv", "country,2019,2020\nDE,10,20\n")],
    "country string, 2019 bigint, 2020 bigint; the first line, `country,2019,2020`, is taken for a header although it has numbers; use --csv-header absent if it is a row",
    "DE|10|20"
)]
#[case::gap(
    &[("a.csv", "Ann,,Berlin\nBob,5,Paris\n")],
    "column_1 string, column_2 bigint, column_3 string; the first line, `Ann,,Berlin`, is taken for a row; use --csv-header present if it is a header",
    "Ann||Berlin;Bob|5|Paris"
)]
#[case::title(
    &[("a.csv", "Report;;\nid;a;b\n1;2;3\n")],
    "column_1 string, column_2 string, column_3 string; the first line, `Report;;`, is taken for a row; use --csv-skip-lines 1 if it is neither header nor row, --csv-header present if it is a header",
    "1|2|3;Report||;id|a|b"
)]
#[case::commas_in_numbers(&[("a.csv", "2024-01-01;1,50;2,75\n")], "column_1 date, column_2 string, column_3 string", "2024-01-01|1,50|2,75")]
#[case::escapes(&[("a.csv", "id,say\n1,\"say \\\"hi\\\"\"\n2,x\n")], "id bigint, say string", "1|say \"hi\";2|x")]
#[case::comments(
    &[("a.csv", "# made by hand\n# in May\nid,name\n1,x\n"), ("b.csv", "#\n#\nid,name\n2,#y\n")],
    "id bigint, name string; 2 comment lines at the start of memory:/t/a.csv, and as many of every file, are skipped",
    "1|x;2|#y"
)]
#[case::separator_said(
    &[("a.csv", "sep=;\r\nid;n\r\n1;2,5\r\n"), ("b.csv", "\u{feff}\"sep=;\"\nid;n\n2;3,5\n")],
    "id bigint, n string; the first line of memory:/t/a.csv, `sep=;`, is skipped here, but Hive and Athena take it for the header or a row",
    "1|2,5;2|3,5"
)]
#[case::separator_said_once(
    &[("a.csv", "sep=;\nid;n\n1;2,5\n"), ("b.csv", "id;n\n2;3,5\n"), ("c.csv", "sep=;\nid;n\n")],
    "id bigint, n string; the first line of memory:/t/a.csv, `sep=;`, is skipped here, but Hive and Athena take it for the header or a row",
    "1|2,5;2|3,5"
)]
#[case::separator_said_later(&[("a.csv", "id;n\n2;3\n"), ("b.csv", "sep=;\nid;n\n1;2\n")], "id bigint, n bigint", "1|2;2|3")]
#[case::same_first_line(&[("a.csv", "first,last\nAnn,Lee\n"), ("b.csv", "first,last\nBob,Ray\n")], "first string, last string", "Ann|Lee;Bob|Ray")]
#[case::case_of_csv(&[("a.csv", "OrderId,x\n1,2\n"), ("b.csv", "orderId,x\n3,4\n")], "orderid bigint, x bigint", "1|2;3|4")]
#[case::case_of_json(
    &[("a.jsonl", r#"{"OrderId":1,"By":{"Name":"x"}}"#), ("b.jsonl", r#"{"orderId":2,"by":{"name":"y"}}"#)],
    "orderid bigint, by struct<name:string>",
    "1|{name: x};2|{name: y}"
)]
#[case::same_folder(&[("region=eu/a.jsonl", r#"{"id":1,"region":"eu"}"#)], "id bigint", "1|eu")]
#[case::joined(&[("a.csv", "id,name\n1,x\n\u{feff}id,name\n2,y\n")], "id bigint, name string", "1|x;2|y")]
#[tokio::test]
async fn files_tell_how_they_are_written(#[case] files: &[(&str, &str)], #[case] told: &str, #[case] values: &str) {
    let world = world(files).await;
    let report = crawl(&world.ctx, &Location::from("memory:/t"), "lake", &CrawlOptions::default()).await.unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let table = &report.tables[0];
    let columns: Vec<String> = table.columns_added.iter().map(|c| format!("{} {}", c.name, c.data_type)).collect();
    let notes: String = table.notes.iter().map(|note| format!("; {note}")).collect();
    assert_eq!(columns.join(", ") + &notes, told);
    assert_eq!(rows(&world).await, values);
    settled(&world, "memory:/t").await;
}

#[rstest]
#[case::escapes_and_ends(&[("a.csv", "id,x\n1,\"\\\"a\\\"\"\n2,\"C:\\\"\n3,y\n")], "`crawl --csv-escape '\\'`")]
#[case::preamble(&[("a.csv", "Report of May\n\nid,name\n1,x\n")], "`crawl --csv-skip-lines 1`")]
#[case::other_delimiter(&[("a.csv", "id,name\n1,x\n2,y\n"), ("b.csv", "id;name\n2;y\n")], "`crawl --csv-delimiter ';'`")]
#[case::comments_in_one_file(
    &[("a.csv", "# x\nname,v\nann,x\n"), ("b.csv", "name,v\nbob,y\ncyd,z\n")],
    "the header is one of the lines that are skipped (file: memory:/t/b.csv, hint: give all files the same number of lines"
)]
#[case::other_separator_said(&[("a.csv", "sep=;\nid;n\n1;2\n"), ("b.csv", "sep=,\nid,n\n2,3\n")], "memory:/t/b.csv")]
#[case::joined(&[("a.csv", "id,name\n1,x\nid,name\n2,y\n")], "line: 3, hint: remove the line, or read every header as a row")]
#[case::twice(&[("a.csv", "id,id\n1,2\n")], "`crawl --csv-header absent`")]
#[case::keys_twice(&[("a.jsonl", "{\"a\":1}\n{\"a\":100,\"a\":200}\n")], "an object has `a` twice (file: memory:/t/a.jsonl, line: 2")]
#[case::keys_in_two_cases(&[("a.jsonl", "{\"A\":1,\"a\":200}\n")], "rename one")]
#[case::hidden(
    &[("region=eu/a.jsonl", "{\"id\":1,\"region\":\"eu-west-1\"}")],
    "`region` is `eu-west-1` in memory:/t/region=eu/a.jsonl and `eu` in the name of its folder"
)]
#[case::hidden_csv(&[("region=eu/a.csv", "id,region\n1,eu-west-1\n")], "rename one")]
#[tokio::test]
async fn what_is_refused_has_a_hint(#[case] files: &[(&str, &str)], #[case] hint: &str) {
    let told = crawled(&world(files).await, "memory:/t").await;
    assert!(told.contains("! memory:/t") && told.contains(hint), "{told}");
}

/// The options, the dialect in the table's description, and the rows of a query.
#[rstest]
#[case::delimiter(CsvHints { delimiter: Some(b';'), ..CsvHints::default() }, "id;n;y\n1;2,a;3,b\n", r#"{"field.delim": ";", "serialization.format": ";", "serialization.null.format": ""} header 1"#, "1|2,a|3,b")]
#[case::no_quotes(CsvHints { quote: Some(None), ..CsvHints::default() }, "id,pipe\n1,\"5\" wide\n", r#"{"field.delim": ",", "serialization.format": ",", "serialization.null.format": ""} header 1"#, "1|\"5\" wide")]
#[case::quotes(CsvHints { quote: Some(Some(b'\'')), ..CsvHints::default() }, "id,name\n1,'a,b'\n", r#"{"escapeChar": "'", "quoteChar": "'", "separatorChar": ","} header 1"#, "1|a,b")]
#[case::escape(CsvHints { escape: Some(b'^'), ..CsvHints::default() }, "id,name\n1,\"a^\"b\"\n", r#"{"escapeChar": "^", "quoteChar": "\"", "separatorChar": ","} header 1"#, "1|a\"b")]
#[case::skip_lines(CsvHints { skip_lines: Some(2), ..CsvHints::default() }, "Report of May\n\"2024\nName,Id\nx,1\n", r#"{"field.delim": ",", "serialization.format": ",", "serialization.null.format": ""} header 3 skip 2"#, "x|1")]
#[case::skip_another_header(CsvHints { skip_lines: Some(1), header: Some(true), ..CsvHints::default() }, "id,name\nID,Name\n1,x\n", r#"{"field.delim": ",", "serialization.format": ",", "serialization.null.format": ""} header 2 skip 1"#, "1|x")]
#[case::skip_lines_before_rows(CsvHints { skip_lines: Some(1), header: Some(false), ..CsvHints::default() }, "Report of May\nx,1\n", r#"{"field.delim": ",", "serialization.format": ",", "serialization.null.format": ""} header 1 skip 1"#, "x|1")]
#[case::comments(CsvHints { comment: Some(b'#'), ..CsvHints::default() }, "# May\nid,name\n#2,y\n1,x\n", r##"{"field.delim": ",", "serialization.format": ",", "serialization.null.format": ""} header 1 comment #; comment lines are skipped here, but Hive and Athena take them for rows"##, "1|x")]
#[case::no_header(CsvHints { header: Some(false), ..CsvHints::default() }, "id,name\nx,y\n", r#"{"field.delim": ",", "serialization.format": ",", "serialization.null.format": ""} header 0"#, "id|name;x|y")]
#[tokio::test]
async fn options_are_kept_in_the_table(
    #[case] csv: CsvHints,
    #[case] text: &str,
    #[case] told: &str,
    #[case] values: &str,
) {
    let world = world(&[("a.csv", text)]).await;
    let options = CrawlOptions { csv, ..CrawlOptions::default() };
    let report = crawl(&world.ctx, &Location::from("memory:/t"), "lake", &options).await.unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let table = world.catalog.get_table("lake", "t").await.unwrap();
    let own = [
        ("skip.header.line.count", "header"),
        ("hardtack.csv.skip.lines", "skip"),
        ("hardtack.csv.comment", "comment"),
    ];
    let own = own.map(|(key, name)| match (table.parameters.get(key), name) {
        (Some(value), _) => format!(" {name} {value}"),
        (None, "header") => " header 0".to_owned(),
        (None, _) => String::new(),
    });
    let notes: String = report.tables[0].notes.iter().map(|note| format!("; {note}")).collect();
    assert_eq!(format!("{:?}{}{notes}", table.storage.serde_parameters, own.concat()), told);
    assert_eq!(rows(&world).await, values);
    // An existing table has its dialect.
    settled(&world, "memory:/t").await;
    let again = with(&world, "memory:/t", &options).await;
    assert!(again.starts_with("Unchanged") && !again.contains("--csv"), "{again}");
    let csv = CsvHints { delimiter: Some(b'|'), ..CsvHints::default() };
    let otherwise = with(&world, "memory:/t", &CrawlOptions { csv, ..CrawlOptions::default() }).await;
    assert!(otherwise.contains("note: a table keeps its dialect"), "{otherwise}");
}

/// One file of a folder has another dialect. That file is the problem, whatever the options say about all files, and
/// the folder stays one table.
#[rstest]
#[case::header(
    "id,name\n1,Ann\n2,Bob\n",
    "3,Cid\n4,Dan\n",
    CsvHints::default(),
    "! memory:/t memory:/t/one.csv seems to have a header, and this file none (file: memory:/t/other.csv, hint: give the file the header of the others"
)]
#[case::header_and_dates(
    "id,name,day\n1,Ann,2024-01-01\n",
    "3,Cid,2024-01-03\n",
    CsvHints::default(),
    "! memory:/t memory:/t/one.csv seems to have a header, and this file none (file: memory:/t/other.csv, hint: give the file the header of the others"
)]
#[case::header_said("id,name\n1,Ann\n2,Bob\n", "3,Cid\n4,Dan\n", CsvHints { header: Some(true), ..CsvHints::default() }, "! memory:/t the first record, `3,Cid`, is not a header, as stated, but a row (file: memory:/t/other.csv, hint: give the file the header of the others")]
#[case::no_header_said("id,name,day\n1,Ann,2024-01-01\n", "3,Cid,2024-01-03\n", CsvHints { header: Some(false), ..CsvHints::default() }, "Created lake.t csv memory:/t\n  + column_1 string\n  + column_2 string\n  + column_3 string\n  note: memory:/t/one.csv seems to have a header; its first line, `id,name,day`, is taken for a row, as stated")]
#[case::texts_are_rows_if_it_is_said("name,city\nAnn,Rome\n", "Cid,Bern\nDan,Kiel\n", CsvHints { header: Some(false), ..CsvHints::default() }, "Created lake.t csv memory:/t\n  + column_1 string\n  + column_2 string")]
#[case::delimiter(
    "id,name\n1,Ann\n2,Bob\n",
    "id;name\n3;Cid\n4;Dan\n",
    CsvHints::default(),
    "! memory:/t the fields of this file seem to be separated by `;`, not by `,` (file: memory:/t/other.csv, line: 1, hint: if this applies to all files"
)]
#[case::delimiter_said("id,name\n1,Ann\n2,Bob\n", "id;name\n3;Cid\n4;Dan\n", CsvHints { delimiter: Some(b','), ..CsvHints::default() }, "! memory:/t the fields of this file seem to be separated by `;`, not by `,` (file: memory:/t/other.csv, hint: if this applies to all files")]
#[case::other_delimiter_said("id,name\n1,Ann\n2,Bob\n", "id;name\n3;Cid\n4;Dan\n", CsvHints { delimiter: Some(b';'), ..CsvHints::default() }, "! memory:/t the fields of this file seem to be separated by `,`, not by `;` (file: memory:/t/one.csv, hint: if this applies to all files")]
#[tokio::test]
async fn a_file_that_is_written_in_another_way_is_a_problem_of_its_folder(
    #[case] one: &str,
    #[case] other: &str,
    #[case] csv: CsvHints,
    #[case] expected: &str,
) {
    let world = world(&[("one.csv", one), ("other.csv", other)]).await;
    let told = with(&world, "memory:/t", &CrawlOptions { csv, ..CrawlOptions::default() }).await;
    assert!(told.starts_with(expected) && told.matches("memory:/t ").count() <= 1, "{told}");
}

/// If the first lines are not conclusive, the options decide which files are data sets of their own.
#[tokio::test]
async fn headers_that_are_said_tell_data_sets_apart() {
    let world =
        world(&[("people.csv", "first,,city\nAnn,Lee,Rome\n"), ("goods.csv", "what,,color\ncup,big,red\n")]).await;
    let csv = CsvHints { header: Some(true), ..CsvHints::default() };
    let told = with(&world, "memory:/t", &CrawlOptions { csv, ..CrawlOptions::default() }).await;
    assert!(told.contains("Created lake.goods") && told.contains("Created lake.people"), "{told}");
}

/// The name of a table of some files is the name of the files.
#[tokio::test]
async fn a_table_of_some_files_whose_name_is_taken_says_what_to_rename() {
    let world = world(&[("people.csv", "id,name\n1,x\n"), ("goods.csv", "what,color\ncup,5\n")]).await;
    crawled(&world, "memory:/t").await;
    world.put("memory:/u/people.csv", "id,name\n1,x\n").await;
    world.put("memory:/u/visits.csv", "day,guest\n2024-01-31,5\n").await;
    let told = crawled(&world, "memory:/u").await;
    let expected =
        "there is a table `lake.people` already, with another folder (hint: rename the files, or use --table-prefix)";
    assert!(told.contains(expected) && told.contains("Created lake.visits"), "{told}");
}

#[tokio::test]
async fn later_files_are_held_to_what_the_table_says() {
    let world = world(&[("a.csv", "id,name\n1,x\n")]).await;
    crawled(&world, "memory:/t").await;
    world.put("memory:/t/b.csv", "2,y\n3,z\n").await;
    let told = crawled(&world, "memory:/t").await;
    assert!(
        told.contains("the first record, `2,y`, is not a header, as the table says, but a row (file: memory:/t/b.csv"),
        "{told}"
    );
    let told = rows(&world).await;
    assert!(told.contains("the first record, `2,y`, is not a header, as the table says, but a row"), "{told}");
    world.put("memory:/t/b.csv", "id;name\n2;y\n").await;
    let told = crawled(&world, "memory:/t").await;
    assert!(told.contains("seem to be separated by `;`, not by `,` (file: memory:/t/b.csv"), "{told}");
    // Names that are neither values nor columns are a header in another language.
    world.put("memory:/t/b.csv", "Nummer,Name\n2,y\n").await;
    assert_eq!(rows(&world).await, "1|x;2|y");
}

/// One of the skipped lines is the header, and a row would be taken for it.
#[rstest]
#[case::one("# x\n")]
#[case::two("# x\n# y\n")]
#[tokio::test]
async fn later_files_have_as_many_lines_in_front_of_the_header(#[case] comments: &str) {
    let world = world(&[("a.csv", &format!("{comments}name,v\nann,x\n"))]).await;
    crawled(&world, "memory:/t").await;
    assert_eq!(rows(&world).await, "ann|x");
    world.put("memory:/t/b.csv", "name,v\nbob,y\ncyd,z\ndan,w\n").await;
    let why = "the header is one of the lines that are skipped (file: memory:/t/b.csv";
    let told = rows(&world).await;
    assert!(told.contains(why), "{told}");
    let told = crawled(&world, "memory:/t").await;
    assert!(told.contains(why), "{told}");
}

#[tokio::test]
async fn hints_that_cannot_be_are_refused() {
    let world = world(&[("a.csv", "id,name\n1,x\n")]).await;
    let csv = CsvHints { comment: Some(b','), delimiter: Some(b','), ..CsvHints::default() };
    let told = with(&world, "memory:/t", &CrawlOptions { csv, ..CrawlOptions::default() }).await;
    assert!(told.contains("`,` cannot be both the delimiter and the comment of a CSV file"), "{told}");
}
