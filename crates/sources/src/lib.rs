//! Where rows come from: [`JsonFiles`], [`CsvFiles`], [`ParquetFiles`], [`AvroFiles`] and [`InMemory`].
//!
//! Sources are values: they say where and how to read, can be compared and printed, and touch nothing until they are
//! loaded. All file sources share [`Files`]: one file or a folder, recursive or not, a glob, partition columns from
//! folder names, and either a declared schema, which is enforced, or one that is inferred from every file.
//!
//! # Which files
//! A location that names a file is that file, whatever its name; with [`file_or_folder`](Files::file_or_folder),
//! `sales` is `sales.csv` or `sales.csv.gz`, too. A folder is searched for the format's usual suffixes, or for a glob;
//! files and folders whose names start with `.` or `_` are hidden, as in Spark and Hive (staged files of running jobs
//! are hidden, too). An empty or missing folder is an error unless [`or_empty`](Files::or_empty) says otherwise.
//!
//! # Files that change
//! Files are read as they were listed. If one is replaced, truncated or appended to before its last row was read, the
//! plan ends with an [`ErrorKind::Changed`](hardtack_core::ErrorKind::Changed): objects are requested under their ETag,
//! and for local files size and time are compared before and after.
//!
//! # Refused data
//! Data that does not fit a declared schema is an [`ErrorKind::Refused`](hardtack_core::ErrorKind::Refused) that names
//! the file and, for text formats, line, column and value:
//!
//! > `` `abc` is not an Int64 (file: /data/books.jsonl, line: 7, column: author.id, value: "abc") ``
//!
//! It occurs when the plan is executed. A file that makes a decoder panic is refused, too.
//!
//! # How a text becomes a value
//! CSV, JSON and folder names follow one set of rules, that of [`hardtack_core::text`], and nothing is lost silently.
//! Blanks around a value are ignored.
//!
//! **A declared type** takes a text only if it means exactly that value, in every format and at every depth.
//! * A number with a fraction is not an integer, and one with too many decimals does not fit a `Decimal`, in any
//!   notation; `3.0` and `1e3` are integers. Overflow does not become infinity. Only floats are approximations: the
//!   nearest is taken, unless a whole number is written with more digits than the float keeps.
//! * Dates are `2024-01-31`, timestamps as in RFC 3339 with a `T` or a space, with or without an offset; without one
//!   they are in the column's zone, or UTC. A timestamp finer than its column, a time of day in a date column, and leap
//!   seconds are refused.
//! * A number is never a date or a timestamp, because its unit is unknown: declare an integer, and convert it.
//! * Booleans are `true`, `t`, `yes`, `y`, `1` and `false`, `f`, `no`, `n`, `0`, in any case (JSON: `true` and `false`).
//!
//! **Where nothing is declared**, a text becomes a number, a date or a boolean only if writing the value back gives the
//! same text, in all files; otherwise the whole column is text. `007`, `+1`, `-0`, `1158E590003`, integers beyond 64
//! bits and more digits than a double keeps are text, and so is a column in which an integer beyond 2^53 meets a
//! fraction. Only the notation of a value may change: zeros at the end of a fraction, `.5` and `5.`, `12` in a column
//! of doubles, an exponent after a point (`1.5E3`) or with a sign (`1e-7`), `Infinity`, the case of `true`, a date
//! among timestamps, and in timestamps the `T`, omitted seconds, and the offset. In JSON a number is a number in any
//! notation (`1E5`).

mod ahead;
mod avro;
mod blocks;
mod bookmark;
mod by_id;
mod compression;
mod convert;
mod csv;
mod fault;
mod files;
mod folders;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod globs;
mod hidden;
mod infer;
mod input;
mod inspect;
mod json;
mod kind;
mod listed;
mod listing;
mod memory;
mod parquet;
mod scan;
mod spelling;
mod table;
mod text;

pub use avro::{Avro, AvroFiles};
pub use bookmark::{Bookmark, ByModificationTime, ByPath};
pub use by_id::{IdFile, NamedId, ScanById};
pub use csv::{Csv, CsvFiles, CsvHints};
pub use files::{FILE_COLUMN, Files, Format, LINE_COLUMN, partition_type, partition_value};
pub use folders::{FileFormat, Folder, FolderCsv, FolderFile, FolderScan, NewFiles};
pub use globs::{FileFilter, Globs};
pub use inspect::{FileKind, InspectOptions, Inspected, inspect};
pub use json::{Json, JsonFiles};
pub use listing::folder_partition;
pub use memory::{InMemory, Rows};
pub use parquet::{Parquet, ParquetFiles};
