//! Tables as sources.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use datafusion::prelude::{col, lit};
use hardtack_catalog::{Column, Table as Description, TableFormat};
use parquet::arrow::ArrowWriter;

use crate::world::{World, show};

/// A Parquet file with these columns.
fn parquet(columns: &[(&str, ArrayRef)]) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns.iter().map(|(name, array)| (*name, Arc::clone(array)))).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn texts<const N: usize>(values: [&str; N]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn ints<const N: usize>(values: [i32; N]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

fn books(format: &TableFormat) -> Description {
    Description::new("lake", "books", format, "memory:/lake/books")
        .with_columns([Column::foreign("title", "string"), Column::foreign("pages", "int")])
        .with_partition_keys([Column::foreign("year", "int")])
}

#[tokio::test]
async fn one_of_a_thousand_partitions_is_read_by_one_page_and_one_listing() {
    let (world, books) = (World::new(), books(&TableFormat::Parquet));
    world.create(&books).await;
    let years: Vec<String> = (1000..2000).map(|year| year.to_string()).collect();
    world.partitions(&books, &years.iter().map(|year| [year.as_str()]).collect::<Vec<_>>()).await;
    for year in ["1987", "1988"] {
        let file = parquet(&[("title", texts(["a", "b"])), ("pages", ints([1, 2]))]);
        world.put(format!("memory:/lake/books/year={year}/part-0"), file).await;
    }
    world.asked();
    let rows = world.load("lake.books").await.unwrap();
    insta::assert_snapshot!(world.asked(), @"get_table 1 (1)");
    let rows = rows.filter(col("year").eq(lit(1987)).and(col("pages").gt(lit(1)))).unwrap();
    insta::assert_snapshot!(show(rows).await, @"
    +-------+-------+------+
    | title | pages | year |
    +-------+-------+------+
    | b     | 2     | 1987 |
    +-------+-------+------+
    ");
    insta::assert_snapshot!(world.asked(), @"
    list_partitions 2 (1)
    GET 4
    LIST 1
    ");
}
