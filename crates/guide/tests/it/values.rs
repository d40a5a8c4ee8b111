//! The guide's tables of how texts are interpreted: every text in them is tested.

use hardtack::arrow::array::Array;
use hardtack::arrow::util::display::array_value_to_string;
use hardtack::catalog::HiveType;
use hardtack::prelude::*;
use hardtack_test_support::{Frame, TempLake, load, rows};

use crate::read;

/// The cells of the table with this mark, row by row.
fn table(mark: &str) -> Vec<Vec<String>> {
    let text = read("docs/guide/src/contracts.md");
    let mark = format!("<!-- {mark}: crates/guide/tests/it/values.rs -->\n");
    let table = text.split(&mark).nth(1).unwrap_or_else(|| panic!("there is no {mark}"));
    let rows = table.lines().take_while(|line| line.starts_with('|')).skip(2);
    let rows: Vec<Vec<String>> =
        rows.map(|row| row.trim_matches('|').split(" | ").map(str::to_owned).collect()).collect();
    assert!(rows.len() > 5, "{mark}");
    rows
}

/// The texts between backticks, item by item.
fn items(cell: &str) -> Vec<Vec<&str>> {
    cell.split(", ").map(|item| item.split('`').skip(1).step_by(2).collect()).collect()
}

fn texts(cell: &str) -> Vec<&str> {
    items(cell).into_iter().flatten().collect()
}

fn schema(of: &str) -> SchemaRef {
    let of = of.parse::<HiveType>().unwrap_or_else(|e| panic!("{of}: {e}"));
    Schema::new(vec![of.to_field("v", true)]).into()
}

/// The type and the values of the column `v`.
fn column(frame: &Frame) -> (String, Vec<String>) {
    let batch = frame.to_batch();
    let column = batch.column_by_name("v").unwrap();
    let values = (0..column.len()).map(|row| array_value_to_string(column, row).unwrap()).collect();
    (HiveType::try_from(column.data_type()).unwrap().to_string(), values)
}

/// A text as a declared type, in every place where it may occur.
async fn declared(text: &str, of: &str) -> Vec<(&'static str, Result<String>)> {
    let lake = TempLake::new();

    lake.write("csv/a.csv", format!("v\n\"{text}\"\n"));
    lake.write("json/a.json", format!("{{\"v\":\"{text}\"}}"));
    lake.write("number/a.json", format!("{{\"v\":{text}}}"));
    lake.write(&format!("folder/v={text}/a.csv"), "x\n1\n");
    lake.write_parquet("parquet/a.parquet", rows! { v; text });
    let with_x = Schema::new([schema("int").field(0).clone().with_name("x"), schema(of).field(0).clone()].to_vec());
    let mut found = vec![
        ("CSV", load(CsvFiles::new("csv", lake.at("csv")).with_schema(schema(of))).await),
        ("a folder", load(CsvFiles::new("folder", lake.at("folder")).with_schema(with_x).with_hive_partitions()).await),
        ("Parquet", load(ParquetFiles::new("parquet", lake.at("parquet")).with_schema(schema(of))).await),
        (
            "a cast",
            match coerce_to_schema(rows! { v; text }.df(), &schema(of)) {
                Ok(rows) => Frame::collect(rows).await,
                Err(e) => Err(e),
            },
        ),
    ];
    // JSON has its own booleans.
    if of != "boolean" {
        found.push(("JSON", load(JsonFiles::new("json", lake.at("json")).with_schema(schema(of))).await));
        if serde_json::from_str::<serde_json::Value>(text).is_ok() || text.contains("e400") {
            found.push(("a number", load(JsonFiles::new("number", lake.at("number")).with_schema(schema(of))).await));
        }
    }
    found.into_iter().map(|(place, frame)| (place, frame.map(|frame| column(&frame).1.concat()))).collect()
}

#[tokio::test]
async fn a_declared_type_takes_and_refuses_what_the_guide_says() {
    for row in table("what texts fit") {
        let of = texts(&row[0])[0];
        for item in items(&row[1]) {
            let (text, expected) = (item[0], *item.last().unwrap());
            for (place, found) in declared(text, of).await {
                let found = found.unwrap_or_else(|e| panic!("{text} as {of} in {place}: {}", e.chain()));
                assert_eq!(found, expected, "{text} as {of} in {place}");
            }
        }
        for text in texts(&row[2]) {
            for (place, found) in declared(text, of).await {
                let error = found.expect_err(&format!("{text} as {of} in {place}"));
                assert_eq!(error.kind(), ErrorKind::Refused, "{text} as {of} in {place}: {error:?}");
            }
        }
    }
}

/// The type that is inferred for a CSV column with these texts, each in a file of its own or all in one, and the
/// values.
async fn inferred(texts: &[&str], apart: bool) -> (String, Vec<String>) {
    let lake = TempLake::new();
    let files: Vec<String> = match apart {
        true => texts.iter().map(|text| format!("v\n{text}\n")).collect(),
        false => vec![format!("v\n{}\n", texts.join("\n"))],
    };
    files.iter().enumerate().for_each(|(i, file)| lake.write(&format!("in/{i}.csv"), file));
    column(&load(CsvFiles::new("in", lake.at("in"))).await.unwrap())
}

#[tokio::test]
async fn inference_does_what_the_guide_says() {
    for row in table("what is inferred") {
        let (mut texts, expected) = (texts(&row[0]), texts(&row[1])[0]);
        for apart in [false, true] {
            for _ in 0..2 {
                let (of, mut values) = inferred(&texts, apart).await;
                assert_eq!(of, expected, "{texts:?}");
                if of == "string" {
                    // Files are read in any order.
                    let mut written = texts.clone();
                    values.sort();
                    written.sort();
                    assert_eq!(values, written);
                }
                texts.reverse();
            }
        }
    }
}

#[tokio::test]
async fn values_are_written_otherwise_as_the_guide_says() {
    for row in table("what may be written otherwise") {
        let [text, back] = [texts(&row[1])[0], texts(&row[2])[0]];
        let (of, values) = inferred(&[text, back], true).await;
        assert!(of != "string" && text != back, "{text} is a {of}");
        assert_eq!(values, [back, back], "{text}");
    }
}

/// The guide warns of this: once DataFusion gets it right, remove the sentence.
#[tokio::test]
async fn a_cast_in_sql_does_with_decimal_commas_what_the_guide_says() {
    for (text, expected) in [("1,239", "1.24"), ("-", "0.00"), ("", "0.00")] {
        let ctx = hardtack::datafusion::prelude::SessionContext::new();
        let query = format!("select cast(replace('{text}', ',', '.') as decimal(10,2)) as v");
        let rows = Frame::collect(ctx.sql(&query).await.unwrap()).await.unwrap();
        assert_eq!(column(&rows).1, [expected], "{text}");
    }
}
