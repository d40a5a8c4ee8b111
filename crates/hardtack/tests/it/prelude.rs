//! The names that `use hardtack::prelude::*` imports.

use insta::assert_snapshot;

/// The names that a module exports, if it lists each of them.
fn exported(source: &str) -> Vec<String> {
    let code: String = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let uses = code.split(';').filter_map(|statement| statement.trim().strip_prefix("pub use "));
    let names = uses.flat_map(|path| match path.split_once('{') {
        Some((_, list)) => list.trim_end_matches('}').split(',').map(|name| name.trim().to_owned()).collect(),
        None => vec![path.rsplit("::").next().unwrap().to_owned()],
    });
    let mut names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
    names.sort_by_key(|name| (name.to_lowercase(), name.clone()));
    names
}

#[test]
fn the_prelude_has_these_names_and_no_others() {
    let names = exported(include_str!("../../src/prelude.rs"));
    assert!(!names.iter().any(|name| name.contains('*')), "what a glob exports changes with its crate: {names:?}");
    let by_letter = names.chunk_by(|a, b| a[..1].eq_ignore_ascii_case(&b[..1])).map(|names| names.join(" "));
    assert_snapshot!(by_letter.collect::<Vec<_>>().join("\n"), @"
    abs apply_mapping Audited avg AvroFiles
    Bookmark btrim ByColumn
    cast CatalogOf ceil character_length clap coalesce coerce_or_null coerce_to_schema coerce_to_schema_with col COMMENT_KEY Compression concat concat_ws contains Context count count_distinct CsvFile CsvFiles
    DatabaseName DataFrame Dataset DataType date_bin date_part date_trunc DateTime differences drop_columns drop_duplicates drop_nulls
    ends_with Error ErrorKind except_existing Expr ExprSchemable
    Field FieldAccessor fill_nulls floor from_unixtime
    greatest
    HIVE_TYPE_KEY HiveField HiveType
    ident initcap
    Job JoinType JsonFiles JsonLines
    least left lit LoadContext Location lower lpad ltrim
    make_date Mapping max Merge merge_and_retain_last min Missing
    NaiveDate named_struct nullif nvl
    ParquetDataset ParquetFiles PartitionValues power
    refuse_rows REFUSED_COLUMN regexp_like regexp_match regexp_replace register_names rename replace Result right round rpad rtrim Rules Run
    ScalarValue Schema schema schema_from_catalog schema_from_cloudformation schema_of SchemaEvolution SchemaRef sensitive sha256 Sink Snapshots SortColumn Source SourceArgs split_by_schema split_date split_part sqrt StageContext starts_with strpos substr substring sum
    Table TargetArgs TargetFormat TimeDelta TimeUnit to_char to_date to_timestamp to_timestamp_micros to_timestamp_millis to_timestamp_seconds translate trim trunc
    upper Utc
    when WithRules
    ");
}

/// An author may give any name to a function of a job.
#[test]
fn all_functions_are_within_reach() {
    use hardtack::functions::{aggregate, levenshtein, nested, window};
    use hardtack::prelude::*;

    let levenshtein = levenshtein(col("a"), lit("b"));
    let all = [levenshtein, aggregate::approx_distinct(col("a")), nested::array_length(col("a")), window::row_number()];
    assert_eq!(all.len(), 4);
}
