//! Damaged files: whatever happened to its bytes, a file is read or refused by name, within bounded time, and stops
//! nothing else.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_avro::compression::CompressionCodec as Codec;
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroOcfFormat;
use datafusion::common::record_batch;
use futures::TryStreamExt;
use hardtack_core::{Error, ErrorKind, JobContext};
use hardtack_sources::{AvroFiles, CsvFiles, FileKind, InspectOptions, JsonFiles, ParquetFiles, inspect};
use insta::assert_snapshot;
use object_store::{ObjectMeta, ObjectStore};
use proptest::prelude::*;
use rstest::rstest;

use crate::avro::avro;
use crate::files::gzip;
use crate::parquet::parquet;
use crate::{collect, context, put, rows, show, with_files};

fn batch() -> RecordBatch {
    let numbers: Vec<Option<i64>> = (0..200).map(|i| (i % 7 != 0).then_some(i * 1_000_003)).collect();
    let texts: Vec<String> = (0..200).map(|i| format!("text {}", "x".repeat(i % 13))).collect();
    record_batch!(("id", Int64, numbers), ("text", Utf8, texts)).unwrap()
}

/// Uncompressed Avro, so that the damage is in the rows.
fn plain_avro(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = WriterBuilder::new(batch.schema().as_ref().clone()).build::<_, AvroOcfFormat>(Vec::new()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    writer.into_inner()
}

fn json() -> String {
    (0..200).map(|i| format!("{{\"id\":{i},\"text\":[{{\"b\":{i}.5}}]}}\n")).collect()
}

fn csv() -> String {
    "id,text\n".to_owned() + &(0..200).map(|i| format!("{i},\"a \"\"{i}\"\"\"\n")).collect::<String>()
}

/// Name, content and kind of a file.
type Sample = (&'static str, Vec<u8>, FileKind);

fn samples() -> Vec<Sample> {
    vec![
        ("a.parquet", parquet(&batch()), FileKind::Parquet),
        ("a.avro", avro(&batch()), FileKind::Avro),
        ("plain.avro", plain_avro(&batch()), FileKind::Avro),
        ("a.jsonl", json().into_bytes(), FileKind::Json),
        ("a.csv", csv().into_bytes(), FileKind::Csv),
        ("a.csv.gz", gzip(&csv()), FileKind::Csv),
    ]
}

/// Kinds of damage.
#[derive(Debug, Clone)]
enum Damage {
    CutShort(prop::sample::Index),
    Flipped(prop::sample::Index, u8),
    Put(prop::sample::Index, Vec<u8>),
    Taken(prop::sample::Index, usize),
    Zeroed(prop::sample::Index, usize),
}

impl Damage {
    fn to(&self, bytes: &mut Vec<u8>) {
        let within = |at: &prop::sample::Index, bytes: &[u8]| if bytes.is_empty() { 0 } else { at.index(bytes.len()) };
        match self {
            Self::CutShort(at) => bytes.truncate(within(at, bytes)),
            Self::Flipped(at, bits) => {
                let at = within(at, bytes);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= bits);
            }
            Self::Put(at, new) => {
                let at = within(at, bytes);
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Taken(at, many) => {
                let at = within(at, bytes);
                bytes.drain(at..bytes.len().min(at + many));
            }
            Self::Zeroed(at, many) => {
                let at = within(at, bytes);
                let end = bytes.len().min(at + many);
                bytes[at..end].fill(0);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        1 => at().prop_map(Damage::CutShort),
        4 => (at(), 1..=255_u8).prop_map(|(at, bits)| Damage::Flipped(at, bits)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, new)| Damage::Put(at, new)),
        1 => (at(), 1..40_usize).prop_map(|(at, many)| Damage::Taken(at, many)),
        1 => (at(), 1..40_usize).prop_map(|(at, many)| Damage::Zeroed(at, many)),
    ]
}

async fn rows_of(ctx: &JobContext, kind: FileKind) -> Result<usize, Error> {
    let at = "memory:/data";
    let batches = match kind {
        FileKind::Parquet => collect(ctx, ParquetFiles::new("a", at)).await,
        FileKind::Avro => collect(ctx, AvroFiles::new("a", at)).await,
        FileKind::Json => collect(ctx, JsonFiles::new("a", at)).await,
        FileKind::Csv => collect(ctx, CsvFiles::new("a", at)).await,
    };
    Ok(batches?.iter().map(RecordBatch::num_rows).sum())
}

fn is_named(error: &Error) -> bool {
    error.kind() == ErrorKind::Refused && error.get("file").is_some_and(|file| file.starts_with("memory:/data/"))
}

/// Inspects a file like a crawler.
async fn inspected(ctx: &JobContext, kind: FileKind) -> Result<usize, Error> {
    let (store, path) = ctx.stores().open(&"memory:/data".into()).unwrap();
    let files: Vec<ObjectMeta> = store.objects.list(Some(&path)).try_collect().await.unwrap();
    let found = inspect(&store, &files, kind, &InspectOptions { concurrency: 2, ..InspectOptions::default() }).await?;
    Ok(found.unfit.len())
}

/// Reads a file and inspects it, within bounded time; returns whether it was refused.
async fn read(name: &str, content: Vec<u8>, kind: FileKind) -> Result<bool, String> {
    let ctx = context(2);
    put(&ctx, &format!("data/{name}"), content).await;
    let both = async { (rows_of(&ctx, kind).await, inspected(&ctx, kind).await) };
    // Generous, so that the test does not depend on the machine's load.
    let (read, inspected) = tokio::time::timeout(Duration::from_secs(60), both).await.map_err(|_| "it hangs")?;
    let errors = [read.as_ref().err(), inspected.as_ref().err()];
    match errors.into_iter().flatten().find(|error| !is_named(error)) {
        Some(error) => Err(format!("{error:?}")),
        None => Ok(read.is_err()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_damaged_file_is_read_or_refused(
        sample in 0..6_usize,
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let (name, mut content, kind) = samples().swap_remove(sample);
        damages.iter().for_each(|damage| damage.to(&mut content));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let outcome = runtime.block_on(read(name, content, kind));
        prop_assert!(outcome.is_ok(), "{}: {:?}", name, outcome);
    }
}

/// The Arrow schema in the footer of a Parquet file is a flatbuffer, whose reader panics on some damage.
#[tokio::test]
async fn a_damaged_arrow_schema_is_refused_and_nothing_else() {
    let whole = parquet(&batch());
    let key = b"ARROW:schema";
    let start = whole.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    let is_base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    // Its length comes first.
    let start = start + whole[start..].iter().position(|b| *b == b'/').unwrap();
    let length = whole[start..].iter().take_while(|b| is_base64(b)).count();
    assert!(length > 200, "{length}");
    let mut refused = 0;
    for at in (start..start + length).step_by(3) {
        let mut damaged = whole.clone();
        damaged[at] = if damaged[at] == b'f' { b'g' } else { b'f' };
        refused += usize::from(read("a.parquet", damaged, FileKind::Parquet).await.unwrap());
    }
    assert!(refused > 10, "{refused} of {} were refused", length / 3);
}

/// Damaged files do not block an intact one.
#[tokio::test]
async fn a_damaged_file_is_left_out_of_what_is_inspected() {
    for (name, content, kind) in samples() {
        let ctx = with_files([(format!("data/{name}").as_str(), content.clone())]).await;
        let half = content.len() / 2;
        put(&ctx, &format!("data/damaged-{name}"), content[..half].to_vec()).await;
        let unfit = inspected(&ctx, kind).await.unwrap();
        // The columns are known even from half of a text, or half of the blocks after a header.
        let known = matches!(name, "a.jsonl" | "a.csv" | "a.avro" | "plain.avro");
        assert!(unfit == 1 || known, "{name}: {unfit}");
    }
}

// --- blocks of Avro --------------------------------------------------------------------------------------------------

/// A file with one block, and the block's offset.
fn one_block() -> (Vec<u8>, usize) {
    let bytes = plain_avro(&record_batch!(("id", Int32, vec![1, 2, 3])).unwrap());
    let marker = &bytes[bytes.len() - 16..];
    let header = bytes.windows(16).position(|window| window == marker).unwrap() + 16;
    (bytes, header)
}

#[rstest]
#[case::one_row_more("rows", 8, "refused: the file is not whole and valid Avro")]
#[case::one_row_less("rows", 4, "a block holds more than the 2 rows that it claims")]
#[case::no_rows("rows", 0, "a block holds more than the 0 rows that it claims")]
#[case::less_than_no_rows("rows", 1, "a block claims to have -1 rows")]
#[case::more_bytes("size", 127, "a block claims to have -64 bytes")]
#[case::fewer_bytes("size", 4, "a block does not end with the marker of the file")]
#[tokio::test]
async fn a_block_of_avro_is_what_it_says(#[case] of: &str, #[case] byte: u8, #[case] expected: &str) {
    let (mut bytes, block) = one_block();
    assert_eq!(bytes[block], 6, "three rows");
    bytes[block + usize::from(of == "size")] = byte;
    let ctx = with_files([("data/a.avro", bytes)]).await;
    let told = show(&ctx, AvroFiles::new("a", "memory:/data")).await;
    assert!(told.contains(expected) && told.contains("file: memory:/data/a.avro"), "{told}");
}

#[tokio::test]
async fn a_block_of_avro_that_is_cut_off_is_not_the_end_of_the_file() {
    let (bytes, block) = one_block();
    for end in block + 1..bytes.len() {
        let ctx = with_files([("data/a.avro", bytes[..end].to_vec())]).await;
        let told = show(&ctx, AvroFiles::new("a", "memory:/data")).await;
        assert!(told.contains("it ends within a block"), "{end}: {told}");
    }
    let ctx = with_files([("data/a.avro", bytes[..block].to_vec())]).await;
    assert_snapshot!(show(&ctx, AvroFiles::new("a", "memory:/data")).await, @"
    +----+
    | id |
    +----+
    +----+
    ");
}

/// Blocks of many sizes, with each codec and none, and with smaller and larger batches.
#[rstest]
#[tokio::test]
async fn blocks_of_avro_of_any_size_are_read(
    #[values(15, 300, 20_000)] rows_in_block: usize,
    #[values(
        None,
        Some(Codec::Deflate),
        Some(Codec::Snappy),
        Some(Codec::ZStandard),
        Some(Codec::Bzip2),
        Some(Codec::Xz)
    )]
    codec: Option<Codec>,
) {
    const ROWS: usize = 30_000;
    let all = record_batch!(("id", Int64, (0..ROWS as i64).collect::<Vec<_>>())).unwrap();
    let builder = WriterBuilder::new(all.schema().as_ref().clone());
    let mut writer = builder.with_compression(codec).build::<_, AvroOcfFormat>(Vec::new()).unwrap();
    for start in (0..ROWS).step_by(rows_in_block) {
        writer.write(&all.slice(start, rows_in_block.min(ROWS - start))).unwrap();
    }
    writer.finish().unwrap();
    let ctx = with_files([("data/a.avro", writer.into_inner())]).await;
    let (schema, found) = rows(&ctx, AvroFiles::new("a", "memory:/data")).await.unwrap();
    assert!(found.iter().all(|batch| batch.num_rows() <= 8192));
    let ids = arrow::compute::concat_batches(&schema, &found).unwrap();
    assert_eq!(ids.column(0), all.column(0));
}

/// Compressed blocks are checked like uncompressed ones.
#[tokio::test]
async fn a_block_of_avro_that_cannot_be_decompressed_is_refused() {
    let rows = record_batch!(("id", Int32, vec![1, 2, 3])).unwrap();
    for codec in [Codec::Deflate, Codec::Snappy, Codec::ZStandard, Codec::Bzip2, Codec::Xz] {
        let builder = WriterBuilder::new(rows.schema().as_ref().clone()).with_compression(Some(codec));
        let mut writer = builder.build::<_, AvroOcfFormat>(Vec::new()).unwrap();
        writer.write(&rows).unwrap();
        writer.finish().unwrap();
        let mut bytes = writer.into_inner();
        // The last byte before the marker belongs to a checksum or to the end of the block.
        let last = bytes.len() - 17;
        bytes[last] ^= 0xFF;
        let ctx = with_files([("data/a.avro", bytes)]).await;
        let told = show(&ctx, AvroFiles::new("a", "memory:/data")).await;
        assert!(told.contains("refused: ") && told.contains("file: memory:/data/a.avro"), "{codec:?}: {told}");
    }
}

/// Rows that consist of nulls take no bytes.
#[tokio::test]
async fn rows_without_bytes_are_counted() {
    let schema =
        arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new("n", arrow::datatypes::DataType::Null, true)]);
    let nulls =
        RecordBatch::try_new(schema.into(), vec![std::sync::Arc::new(arrow::array::NullArray::new(5))]).unwrap();
    let ctx = with_files([("data/a.avro", plain_avro(&nulls))]).await;
    let (_, found) = rows(&ctx, AvroFiles::new("a", "memory:/data")).await.unwrap();
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 5);
}
