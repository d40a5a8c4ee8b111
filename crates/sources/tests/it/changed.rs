//! Files that change between the listing and the last row.

#![expect(clippy::disallowed_methods, reason = "changes files while they are being read")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use datafusion::common::record_batch;
use futures::StreamExt;
use hardtack_core::{Error, ErrorKind, JobContext, Location, Result, Source};
use hardtack_sources::{AvroFiles, CsvFiles, JsonFiles, ParquetFiles};
use rstest::rstest;

use crate::avro::avro;
use crate::files::gzip;
use crate::parquet::parquet;
use crate::{context, put, schema, with_files};

/// A format of files.
#[derive(Debug, Clone, Copy)]
enum Of {
    Csv,
    GzippedCsv,
    Json,
    Avro,
    Parquet,
}

impl Of {
    fn source(self, at: impl Into<Location>) -> Box<dyn Source> {
        match self {
            Self::Csv | Self::GzippedCsv => Box::new(CsvFiles::new("a", at)),
            Self::Json => Box::new(JsonFiles::new("a", at)),
            Self::Avro => Box::new(AvroFiles::new("a", at)),
            Self::Parquet => Box::new(ParquetFiles::new("a", at)),
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::GzippedCsv => "csv.gz",
            Self::Json => "jsonl",
            Self::Avro => "avro",
            Self::Parquet => "parquet",
        }
    }

    /// A file with `rows` consecutive numbers from `first` on.
    fn file(self, first: i64, rows: i64) -> Vec<u8> {
        let numbers = first..first + rows;
        let lines = |line: fn(i64) -> String| numbers.clone().map(line).collect::<String>();
        let csv = || "v\n".to_owned() + &lines(|v| format!("{v}\n"));
        let batch = || -> RecordBatch { record_batch!(("v", Int64, numbers.clone().collect::<Vec<_>>())).unwrap() };
        match self {
            Self::Csv => csv().into_bytes(),
            Self::GzippedCsv => gzip(&csv()),
            Self::Json => lines(|v| format!("{{\"v\":{v}}}\n")).into_bytes(),
            Self::Avro => avro(&batch()),
            Self::Parquet => parquet(&batch()),
        }
    }
}

fn told(error: &Error, file: &str) {
    assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Changed, 1), "{error:?}");
    assert!(error.get("file").is_some_and(|named| named.ends_with(file)), "{error:?}");
    assert!(error.get_hint().is_some_and(|hint| hint.contains("run again")), "{error:?}");
}

/// The second of two files is replaced by one with the same number of different rows.
#[rstest]
#[tokio::test]
async fn a_file_that_is_replaced_after_it_was_listed_ends_the_run(
    #[values(Of::Csv, Of::GzippedCsv, Of::Json, Of::Avro, Of::Parquet)] of: Of,
    #[values("file", "memory")] store: &str,
    #[values(true, false)] removed: bool,
) {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (format!("data/a.{}", of.suffix()), format!("data/b.{}", of.suffix()));
    let ctx = with_files([(a.as_str(), of.file(0, 3)), (b.as_str(), of.file(3, 3))]).await;
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join(&a), of.file(0, 3)).unwrap();
    fs::write(folder.path().join(&b), of.file(3, 3)).unwrap();
    let local = folder.path().to_str().unwrap().to_owned();
    let at = if store == "file" { format!("{local}/data") } else { "memory:/data".to_owned() };

    let rows = of.source(at.as_str()).load(&ctx.loading("a")).await.unwrap();
    assert_eq!(rows.clone().count().await.unwrap(), 6);
    if store == "file" {
        let new = folder.path().join("new");
        fs::write(&new, of.file(6, 3)).unwrap();
        fs::rename(&new, folder.path().join(&b)).unwrap();
        if removed {
            fs::remove_file(folder.path().join(&b)).unwrap();
        }
    } else {
        put(&ctx, &b, of.file(6, 3)).await;
        if removed {
            let (store, path) = ctx.stores().open(&Location::from("memory:/").join(&b)).unwrap();
            object_store::ObjectStoreExt::delete(store.objects.as_ref(), &path).await.unwrap();
        }
    }
    let error = Error::from(rows.collect().await.unwrap_err());
    told(&error, &b);
    assert_eq!(error.message().contains("gone"), removed, "{error}");
}

/// Reads a few rows of a large file, changes it, and reads the rest.
async fn interrupted(ctx: &JobContext, file: &Path, done: impl FnOnce(&Path)) -> Result<usize> {
    let (at, schema) = (file.to_str().unwrap(), schema(&[("v", DataType::Utf8)]));
    let rows = match file.extension().is_some_and(|suffix| suffix == "csv") {
        true => CsvFiles::new("a", at).with_schema(schema).load(&ctx.loading("a")).await?,
        false => JsonFiles::new("a", at).with_schema(schema).load(&ctx.loading("a")).await?,
    };
    let mut rows = rows.execute_stream().await?;
    let mut read = rows.next().await.unwrap()?.num_rows();
    done(file);
    while let Some(batch) = rows.next().await {
        read += batch?.num_rows();
    }
    Ok(read)
}

/// The number of rows of a text that is many times larger than a piece.
const ROWS: usize = 10_000;

#[rstest]
#[case("csv", "")]
#[case("jsonl", "{\"v\": \"")]
#[tokio::test]
async fn a_file_that_changes_while_it_is_read_ends_the_run(#[case] suffix: &str, #[case] before: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(format!("a.{suffix}"));
    let ctx = context(1);
    let after = if before.is_empty() { "\n" } else { "\"}\n" };
    let row = format!("{before}{}{after}", "x".repeat(2000));
    let content = if before.is_empty() { "v\n" } else { "" }.to_owned() + &row.repeat(ROWS);
    let content = content.as_bytes();
    let cut_short = |file: &Path| {
        let whole_rows = content[..content.len() / 2].iter().rposition(|b| *b == b'\n').unwrap() + 1;
        File::options().write(true).open(file).unwrap().set_len(whole_rows as u64).unwrap();
    };
    let written_on = |file: &Path| {
        File::options().append(true).open(file).unwrap().write_all(row.as_bytes()).unwrap();
    };
    let replaced = |file: &Path| {
        fs::write(folder.path().join("new"), content).unwrap();
        fs::rename(folder.path().join("new"), file).unwrap();
    };
    fs::write(&file, content).unwrap();
    assert_eq!(interrupted(&ctx, &file, |_| ()).await.unwrap(), ROWS);
    let name = file.file_name().unwrap().to_str().unwrap();
    let all: [&dyn Fn(&Path); 3] = [&cut_short, &written_on, &replaced];
    for done in all {
        fs::write(&file, content).unwrap();
        told(&interrupted(&ctx, &file, done).await.unwrap_err(), name);
    }
}
