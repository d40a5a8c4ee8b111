use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::util::pretty::pretty_format_batches_with_schema;
use datafusion::logical_expr::{col, lit};
use datafusion::physical_plan::displayable;
use hardtack_sources::CsvFiles;
use insta::assert_snapshot;
use proptest::prelude::*;

use crate::{collect, schema, show, types, with_files};

const AT: &str = "memory:/data";

fn people() -> CsvFiles {
    CsvFiles::new("people", AT).with_schema(schema(&[
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("born", DataType::Date32),
    ]))
}

#[tokio::test]
async fn columns_are_found_by_name_in_any_order_and_case() {
    let a = "name,extra,ID,born\nAnn,x,1,2001-02-03\n\"\",\"y\n,z\",,\n";
    let b = "\u{feff}id;name";
    let ctx = with_files([("data/a.csv", a)]).await;
    assert_snapshot!(show(&ctx, people()).await, @"
    +----+------+------------+
    | id | name | born       |
    +----+------+------------+
    | 1  | Ann  | 2001-02-03 |
    |    |      |            |
    +----+------+------------+
    ");
    let frame = ctx.load(people()).await.unwrap().select_columns(&["born"]).unwrap();
    assert_snapshot!(arrow::util::pretty::pretty_format_batches(&frame.collect().await.unwrap()).unwrap(), @"
    +------------+
    | born       |
    +------------+
    | 2001-02-03 |
    |            |
    +------------+
    ");
    let count = ctx.load(people()).await.unwrap().count().await.unwrap();
    assert_eq!(count, 2);
    let told = show(&ctx, people().with_schema(schema(&[("bornn", DataType::Date32)]))).await;
    assert!(told.contains("column: bornn, hint: did you mean `born`?"), "{told}");
    crate::put(&ctx, "data/b.csv", b).await;
    assert_snapshot!(show(&ctx, people()).await, @"refused: the file has no column `id`; its header is `id;name` (file: memory:/data/b.csv, line: 1, column: id, hint: if this applies to all files: `with_delimiter(b';')`, `crawl --csv-delimiter ';'`; otherwise rewrite the file, or move it to a folder of its own)");
}

#[tokio::test]
async fn options_say_how_the_text_is_written() {
    let text = "1;'it\\'s; so';NULL\n2;;'NULL'\n";
    let source =
        CsvFiles::new("a", AT).with_delimiter(b';').with_quote(b'\'').with_escape(b'\\').with_null_text("NULL");
    let ctx = with_files([("data/a.csv", text)]).await;
    assert_snapshot!(show(&ctx, source.clone().without_header()).await, @"
    +----------+----------+----------+
    | column_1 | column_2 | column_3 |
    +----------+----------+----------+
    | 1        | it's; so |          |
    | 2        |          | NULL     |
    +----------+----------+----------+
    ");
    let names = schema(&[("a", DataType::Int8), ("b", DataType::Utf8View), ("c", DataType::LargeUtf8)]);
    assert_snapshot!(show(&ctx, source.without_header().with_schema(names)).await, @"
    +---+----------+------+
    | a | b        | c    |
    +---+----------+------+
    | 1 | it's; so |      |
    | 2 |          | NULL |
    +---+----------+------+
    ");
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let rows = ["7,\"a\nb\",1999-13-01\n", "7.5,a,\n", "7,a\n", "7,a,,\n", "7,\"a\"b,\n", "7,\"a,\n", "7,\u{1},\n"];
    let mut errors = Vec::new();
    for row in rows {
        let mut text = format!("id,name,born\n1,\"x\ny\",2001-02-03\n\n{row}8,b,\n").into_bytes();
        // A byte that is invalid in UTF-8.
        text.iter_mut().filter(|b| **b == 1).for_each(|b| *b = 0xFF);
        let ctx = with_files([("data/a.csv", text)]).await;
        errors.push(show(&ctx, people()).await);
    }
    assert_snapshot!(errors.join("\n"), @r#"
    refused: `1999-13-01` is not a Date32 (file: memory:/data/a.csv, line: 6, column: born, value: "1999-13-01")
    refused: `7.5` is not an Int64 (file: memory:/data/a.csv, line: 5, column: id, value: "7.5")
    refused: the record has 2 fields where 3 are expected (file: memory:/data/a.csv, line: 5, value: 7,a)
    refused: the record has 4 fields where 3 are expected (file: memory:/data/a.csv, line: 5, value: 7,a,,)
    refused: text follows a closing quote; a quote within a quoted field must be doubled (file: memory:/data/a.csv, line: 5, value: "a"b,, hint: if quotes are just characters: `with_quote(None)`, `crawl --csv-quote none`)
    refused: a quote is not closed (file: memory:/data/a.csv, line: 5, value: "a,, hint: if quotes are just characters: `with_quote(None)`, `crawl --csv-quote none`)
    refused: this is not UTF-8 text; convert the file (file: memory:/data/a.csv, line: 5)
    "#);
}

#[tokio::test]
async fn headers_must_have_the_declared_columns_once() {
    let ctx = with_files([("data/a.csv", "id,born,born,NAME\n")]).await;
    assert_snapshot!(show(&ctx, people()).await, @"refused: the header names `born` more than once (file: memory:/data/a.csv, line: 1, column: born, hint: rename one; if the line is a row: `without_header()`, `crawl --csv-header absent`; if it is neither: `with_skip_lines(1)`, `crawl --csv-skip-lines 1`)");
    let ctx = with_files([("data/a.csv", "id,born,Name,NAME\n")]).await;
    assert_snapshot!(show(&ctx, people()).await, @"refused: the header names `name` more than once (file: memory:/data/a.csv, line: 1, column: name, hint: rename one; if the line is a row: `without_header()`, `crawl --csv-header absent`; if it is neither: `with_skip_lines(1)`, `crawl --csv-skip-lines 1`)");
    assert_snapshot!(types(&ctx, CsvFiles::new("a", AT)).await, @"id: Utf8, born: Utf8, Name: Utf8, NAME: Utf8");
    let ctx = with_files([("data/a.csv", "id,id\n")]).await;
    assert_snapshot!(show(&ctx, CsvFiles::new("a", AT)).await, @"refused: the header names `id` more than once (file: memory:/data/a.csv, line: 1, column: id, hint: rename one; if the line is a row: `without_header()`, `crawl --csv-header absent`; if it is neither: `with_skip_lines(1)`, `crawl --csv-skip-lines 1`)");
}

#[tokio::test]
async fn required_columns_need_values() {
    let source = CsvFiles::new("a", AT).with_schema(Schema::new(vec![Field::new("id", DataType::Utf8, false)]));
    let ctx = with_files([("data/a.csv", "x,id\n1,\"\"\n1,\n")]).await;
    assert_snapshot!(show(&ctx, source).await, @"refused: a value is missing where the schema requires one (file: memory:/data/a.csv, line: 3, column: id)");
    let nested = CsvFiles::new("a", AT).with_schema(schema(&[("l", DataType::new_list(DataType::Utf8, true))]));
    assert_snapshot!(show(&ctx, nested).await, @"usage: a CSV file cannot hold a List(Utf8) (column: l)");
}

#[tokio::test]
async fn types_are_found_in_every_file() {
    let a = "i,f,b,d,t,z,s,n,zip\n1,1,true,2024-01-31,2024-01-31,2024-01-31T10:00:00Z,1,,01234\n";
    let b = "extra,i,f,b,d,t,z,s,n\n1,,2.5,FALSE,,2024-01-31 10:00:00,2024-01-31T10:00:00+01:00,x,\n";
    let ctx = with_files([("data/a.csv", a), ("data/b.csv", b), ("data/d.csv", "i\n")]).await;
    assert_snapshot!(types(&ctx, CsvFiles::new("a", AT)).await, @r#"i: Int64, f: Float64, b: Boolean, d: Date32, t: Timestamp(µs), z: Timestamp(µs, "UTC"), s: Utf8, n: Utf8, zip: Utf8, extra: Int64"#);
    assert_snapshot!(show(&ctx, CsvFiles::new("a", AT)).await, @"
    +---+-----+-------+------------+---------------------+----------------------+---+---+-------+-------+
    | i | f   | b     | d          | t                   | z                    | s | n | zip   | extra |
    +---+-----+-------+------------+---------------------+----------------------+---+---+-------+-------+
    | 1 | 1.0 | true  | 2024-01-31 | 2024-01-31T00:00:00 | 2024-01-31T10:00:00Z | 1 |   | 01234 |       |
    |   | 2.5 | false |            | 2024-01-31T10:00:00 | 2024-01-31T09:00:00Z | x |   |       | 1     |
    +---+-----+-------+------------+---------------------+----------------------+---+---+-------+-------+
    ");
}

#[tokio::test]
async fn timestamps_and_decimals_are_parsed() {
    let text = "t,d,z\n2024-01-31 10:00:00.123,1.5,2024-07-01 12:00:00\n2024-01-31T11:00:00.1230+01:00,-2,2024-07-01T12:00:00Z\n";
    let columns = schema(&[
        ("t", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ("d", DataType::Decimal128(5, 2)),
        ("z", DataType::Timestamp(TimeUnit::Second, Some("+02:00".into()))),
    ]);
    let ctx = with_files([("data/a.csv", text)]).await;
    assert_snapshot!(show(&ctx, CsvFiles::new("a", AT).with_schema(columns)).await, @"
    +-------------------------+-------+---------------------------+
    | t                       | d     | z                         |
    +-------------------------+-------+---------------------------+
    | 2024-01-31T10:00:00.123 | 1.50  | 2024-07-01T12:00:00+02:00 |
    | 2024-01-31T10:00:00.123 | -2.00 | 2024-07-01T14:00:00+02:00 |
    +-------------------------+-------+---------------------------+
    ");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_arrow_writes_is_read_back(
        rows in prop::collection::vec((any::<i64>(), prop::option::of("[a\",\n\r ü]{1,6}"), any::<f64>()), 0..40),
    ) {
        let columns = schema(&[("i", DataType::Int64), ("s", DataType::Utf8), ("f", DataType::Float64)]);
        let batch = arrow::array::RecordBatch::try_new(columns.clone(), vec![
            std::sync::Arc::new(rows.iter().map(|r| Some(r.0)).collect::<arrow::array::Int64Array>()),
            std::sync::Arc::new(rows.iter().map(|r| r.1.clone()).collect::<arrow::array::StringArray>()),
            std::sync::Arc::new(rows.iter().map(|r| Some(r.2)).collect::<arrow::array::Float64Array>()),
        ]).unwrap();
        let mut bytes = Vec::new();
        arrow::csv::Writer::new(&mut bytes).write(&batch).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let back = runtime.block_on(async {
            let ctx = with_files([("data/a.csv", bytes)]).await;
            collect(&ctx, CsvFiles::new("a", AT).with_schema(columns.clone())).await.unwrap()
        });
        prop_assert_eq!(arrow::compute::concat_batches(&columns, &back).unwrap(), batch);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// A filter that is applied while files are read has the same result as afterwards.
    #[test]
    fn filters_do_not_change_the_answer(
        rows in prop::collection::vec((any::<Option<i8>>(), prop::option::of("[ab]{1,2}"), prop::option::of("[xy]{1,2}")), 0..40),
        condition in prop::sample::select(vec![
            "n > 0", "t like '%a%'", "t is null", "n is not null and u = 'x'", "t = u", "n < 0 or t > 'aa'", "true",
            "false", "coalesce(t, u) = 'x'", "n + 1 > 5 and t is not null",
        ]),
        columns in prop::sample::select(vec!["*", "u", "n, t", "count(*)", "upper(u) as v, n", "t, u"]),
    ) {
        let cell = |text: &Option<String>| text.clone().unwrap_or_default();
        let line = |(n, t, u): &(Option<i8>, _, _)| format!("{},{},{}\n", cell(&n.map(|n| n.to_string())), cell(t), cell(u));
        let text = std::iter::once("n,t,u\n".to_owned()).chain(rows.iter().map(line)).collect::<String>();
        let schema = schema(&[("n", DataType::Int64), ("t", DataType::Utf8), ("u", DataType::Utf8)]);
        let source = CsvFiles::new("a", AT).with_schema(schema);
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let ctx = with_files([("data/a.csv", text)]).await;
            let rows = ctx.load(source).await.unwrap();
            // In memory, nothing is filtered during the read.
            ctx.session().register_table("read", rows.clone().into_view()).unwrap();
            ctx.session().register_table("held", rows.cache().await.unwrap().into_view()).unwrap();
            let query = |table: &str| format!("select {columns} from {table} where {condition}");
            let answer = async |table: &str| {
                let rows = ctx.session().sql(&query(table)).await.unwrap();
                let schema = rows.schema().inner().clone();
                pretty_format_batches_with_schema(schema, &rows.collect().await.unwrap()).unwrap().to_string()
            };
            assert_eq!(answer("read").await, answer("held").await);
        });
    }
}

#[tokio::test]
async fn what_a_filter_drops_was_read_and_is_held_to_the_schema() {
    let ctx = with_files([("data/a.csv", "id,name,born\n1,Ann,2001-02-03\n2,Bob,\n3,Cem,2001-02-04\n")]).await;
    let bobs = async || ctx.load(people()).await.unwrap().filter(col("name").eq(lit("Bob"))).unwrap();
    let plan = bobs().await.create_physical_plan().await.unwrap();
    let plan = displayable(plan.as_ref()).indent(false).to_string();
    assert!(plan.contains("predicate=name") && !plan.contains("FilterExec"), "{plan}");
    let found = bobs().await.collect().await.unwrap();
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    assert_eq!(ctx.meters().sources()["people"].rows, 3);

    crate::put(&ctx, "data/b.csv", "id,name,born\n4,Dan,someday\n").await;
    let error = hardtack_core::Error::from(bobs().await.collect().await.unwrap_err());
    assert_snapshot!(error.chain(), @"`someday` is not a Date32 (file: memory:/data/b.csv, line: 2, column: born, value: \"someday\")");
}

#[tokio::test]
async fn where_a_filter_cannot_be_applied_the_line_is_named() {
    let ctx = with_files([("data/a.csv", "n,t\n1,a\n0,b\n2,c\n")]).await;
    let source = CsvFiles::new("a", AT).with_schema(schema(&[("n", DataType::Int64), ("t", DataType::Utf8)]));
    let rows = ctx.load(source).await.unwrap().filter((lit(10) / col("n")).gt(lit(3))).unwrap();
    let error = hardtack_core::Error::from(rows.collect().await.unwrap_err());
    assert_snapshot!(error.chain(), @"the filter cannot be applied: Arrow error: Divide by zero error (file: memory:/data/a.csv, line: 3)");
}
