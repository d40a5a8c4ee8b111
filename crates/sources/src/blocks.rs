//! Reads text formats: splits them into blocks of whole rows sequentially, and decodes the blocks in parallel.

use arrow::array::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_core::{Error, Result};

use crate::ahead::LEFT_OVER_BYTES;
use crate::fault::Fault;
use crate::input::{Block, Lines, Step, Text};
use crate::scan::Batches;

/// So much text is enough for a block, even if it has fewer rows than a batch: wide rows do not make large blocks, and
/// little of each piece remains to be copied in front of the next one.
pub(crate) const BLOCK_BYTES: usize = LEFT_OVER_BYTES;

/// The number of blocks in flight beyond those being decoded. Batches are emitted in order, so a slow block, or one
/// whose core is busy otherwise, delays those after it; without these, cores would be idle meanwhile.
const BLOCKS_AHEAD: usize = 6;

/// Finds the rows of one file. This is sequential, so it should be fast.
pub(crate) trait Cut: Send + 'static {
    /// The decoder of a block.
    type Rows: Decode;

    /// Takes whole rows off the front of the text: at most a batch, and fewer if they are enough for a block or the text
    /// has ended.
    fn cut(&mut self, text: &[u8], ended: bool) -> Result<Step<Self::Rows>, Fault>;
}

/// Decodes the rows of a block.
pub(crate) trait Decode: Send + 'static {
    /// The batch, or the first fault.
    fn decode(&self, text: &[u8]) -> Result<RecordBatch, Fault>;

    /// The same for a block that follows these lines, for rows with line numbers.
    fn decode_from(&self, text: &[u8], _lines: Lines) -> Result<RecordBatch, Fault> {
        self.decode(text)
    }
}

impl<R: Decode> Block<R> {
    fn decode(self) -> Result<RecordBatch> {
        self.made.decode_from(&self.text, self.lines).map_err(|fault| self.refuse(fault))
    }
}

impl Text {
    /// The rows of the text, in order, up to the first fault. If `parallelism` is greater than one, blocks are decoded
    /// by tasks, and [a few more](BLOCKS_AHEAD) are cut in advance.
    pub(crate) fn batches(self, cutter: impl Cut, parallelism: usize) -> Batches {
        let blocks = stream::try_unfold((self, cutter), |(mut text, mut cutter)| async move {
            let block = text.next(|text, ended| cutter.cut(text, ended)).await?;
            Ok::<_, Error>(block.map(|block| (block, (text, cutter))))
        });
        if parallelism <= 1 {
            return blocks.and_then(|block| async move { block.decode() }).boxed();
        }
        // A fault in cutting waits for its turn, too: a row before it may have a fault.
        let tasks = blocks.map(|block| async move {
            let block = block?;
            let task = SpawnedTask::spawn(async move { block.decode() });
            task.join_unwind().await.map_err(|e| Error::unexpected("decoding died").because(e))?
        });
        tasks.buffered(parallelism + BLOCKS_AHEAD).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::compute::concat_batches;
    use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::csv::decode::{CsvCutter, Layout, Places};
    use crate::json::decode::JsonCutter;

    fn columns() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]))
    }

    /// The rows of a text read in pieces of this size.
    fn read(text: impl AsRef<[u8]>, piece: usize, cutter: impl Cut) -> Result<RecordBatch, String> {
        read_in_parallel(text, piece, cutter, 1)
    }

    fn read_in_parallel(
        text: impl AsRef<[u8]>,
        piece: usize,
        cutter: impl Cut,
        parallelism: usize,
    ) -> Result<RecordBatch, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let batches =
            runtime.block_on(Text::of(text.as_ref(), piece).batches(cutter, parallelism).try_collect::<Vec<_>>());
        // How much of a bad line is shown depends on how much of it was read.
        let batches = batches.map_err(|e| e.to_string().split(", value: ").next().unwrap().to_owned())?;
        Ok(concat_batches(&columns(), &batches).unwrap())
    }

    fn json(batch_size: usize, block_bytes: usize) -> impl Cut {
        let mut cutter = JsonCutter::new(columns(), batch_size);
        cutter.block_bytes = block_bytes;
        cutter
    }

    fn csv(batch_size: usize) -> impl Cut {
        let layout =
            Layout { wanted: columns(), filter: None, all: columns(), places: Places::Required, or_empty: true };
        CsvCutter::new(Arc::default(), layout, batch_size)
    }

    const WHOLE: usize = 8 << 20;

    /// Blocks are cut from the available text; the remainder goes in front of the next piece, whether it fits there or
    /// not.
    #[rstest]
    #[case(5)]
    #[case(3 * BLOCK_BYTES)]
    fn long_rows_and_many_are_read_from_pieces(
        #[case] longest: usize,
        #[values(BLOCK_BYTES / 2, 2 * BLOCK_BYTES)] piece: usize,
    ) {
        let rows = 4 * BLOCK_BYTES / longest.max(32);
        let text: String = (0..rows).map(|i| format!("{i},{}\n", "x".repeat(longest - i % 5))).collect();
        let text = format!("a,b\n{text}");
        let found = read(&text, piece, csv(8192)).unwrap();
        assert_eq!(found.num_rows(), rows);
        assert_eq!(found, read(&text, WHOLE, csv(usize::MAX)).unwrap());
    }

    /// Columns are decoded one after another, after the records were counted.
    #[rstest]
    #[case::value_before_width("1,x\n2,y\nz,z\n4\n", "`z` is not an Int64 (file: test, line: 4, column: a")]
    #[case::width_before_value("1,x\n2\nz,z\n", "the record has 1 field where 2 are expected (file: test, line: 3")]
    #[case::second_column_before_first(
        "1,x\n2,~\nz,z\n",
        "this is not UTF-8 text; convert the file (file: test, line: 3)"
    )]
    fn the_first_wrong_record_is_told(
        #[case] rows: &str,
        #[case] wrong: &str,
        #[values(1, 2, 8192)] batch_size: usize,
        #[values(1, 2)] parallelism: usize,
    ) {
        // Bytes that are invalid in UTF-8.
        let text =
            format!("a,b\n{rows}").bytes().map(|byte| if byte == b'~' { 0xFF } else { byte }).collect::<Vec<_>>();
        assert_eq!(read_in_parallel(&text, WHOLE, csv(batch_size), parallelism).unwrap_err(), wrong);
    }

    /// A row that is not an object is detected when the text is cut; a wrong value is detected later, when the block is
    /// decoded.
    #[rstest]
    fn a_wrong_value_is_told_before_what_is_no_row(#[values(1, 2)] parallelism: usize) {
        let text = "{\"a\": 1}\n{\"a\": \"z\"}\n{\"a\": 3}\n4\n";
        let told = read_in_parallel(text, WHOLE, json(1, WHOLE), parallelism).unwrap_err();
        assert!(told.contains("line: 2"), "{told}");
    }

    proptest! {
        #[test]
        fn how_a_text_comes_does_not_matter(
            rows in prop::collection::vec((any::<i64>(), "[a{}\\[\\],\"\\\\\n\r ü]{0,9}"), 0..30),
            damage in prop::option::weighted(0.2, (any::<prop::sample::Index>(), "[a{}\\[\\],\"\\\\\n]")),
            piece in 1_usize..40,
            batch_size in 1_usize..9,
            block_bytes in prop_oneof![Just(WHOLE), 1..200_usize],
            bom in any::<bool>(),
        ) {
            let bom = if bom { "\u{feff}" } else { "" };
            let damaged = |mut text: String| {
                if let Some((at, with)) = damage.as_ref().filter(|_| !text.is_empty()) {
                    let places: Vec<usize> = text.char_indices().map(|(i, _)| i).collect();
                    text.insert_str(places[at.index(places.len())], with);
                }
                text
            };
            let line = |(a, b): &(i64, String)| serde_json::json!({ "a": a, "b": b }).to_string() + "\n";
            let text = bom.to_owned() + &damaged(rows.iter().map(line).collect());
            let whole = read(&text, WHOLE, json(8192, WHOLE));
            prop_assert_eq!(read(&text, piece, json(batch_size, block_bytes)), whole);

            let line = |(a, b): &(i64, String)| format!("{a},\"{}\"\r\n", b.replace('"', "\"\""));
            let text = damaged(std::iter::once("a,b\n".to_owned()).chain(rows.iter().map(line)).collect());
            let text = bom.to_owned() + &text;
            let whole = read(&text, WHOLE, csv(8192));
            prop_assert_eq!(read(&text, piece, csv(batch_size)), whole);
        }
    }
}
