//! The arguments for where a job reads and writes.

use clap::{Args as _, Command, FromArgMatches};
use hardtack::prelude::*;
use insta::assert_snapshot;
use rstest::rstest;

#[derive(Debug, PartialEq, clap::Args)]
#[command(mut_args(SourceArgs::describe("Lake root that holds `books/`", "fixtures/lake", ["books", "authors"])))]
#[command(mut_args(TargetArgs::describe("Lake root that gets `shelf/`", "target/lake", ["shelf"])))]
struct Args {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    target: TargetArgs,
}

fn parse(args: &[&str]) -> Result<Args, String> {
    let command = Args::augment_args(Command::new("job").no_binary_name(true));
    let matches =
        command.mut_args(|arg| arg.env(None::<&str>)).try_get_matches_from(args).map_err(|e| e.to_string())?;
    Ok(Args::from_arg_matches(&matches).unwrap())
}

#[rstest]
#[case::defaults(&[], "fixtures/lake".into(), "target/lake".into())]
#[case::places(&["--source", "s3://in", "--target", "out"], "s3://in".into(), "out".into())]
#[case::databases(
    &["--source-database", "raw", "--target-database", "shop"],
    SourceArgs::from("fixtures/lake").in_database("raw".parse().unwrap()),
    TargetArgs::from("target/lake").in_database("shop".parse().unwrap())
)]
#[case::format(
    &["--target-format", "iceberg"],
    "fixtures/lake".into(),
    TargetArgs { format: TargetFormat::Iceberg, ..TargetArgs::from("target/lake") }
)]
fn arguments_are_parsed(#[case] args: &[&str], #[case] source: SourceArgs, #[case] target: TargetArgs) {
    assert_eq!(parse(args), Ok(Args { source, target }));
}

#[test]
fn without_a_default_a_place_is_required() {
    let command = SourceArgs::augment_args(Command::new("job").no_binary_name(true));
    let error = command.mut_args(|arg| arg.env(None::<&str>)).try_get_matches_from([""; 0]).unwrap_err();
    assert!(error.to_string().contains("--source <LOCATION>"), "{error}");
}

#[test]
fn a_format_that_is_unknown_is_refused() {
    let error = parse(&["--target-format", "hudi"]).unwrap_err();
    assert!(error.contains("'--target-format <FORMAT>': expected `parquet` or `iceberg`"), "{error}");
}

/// Iceberg tables are in a catalog, whether or not the run names a database.
#[rstest]
#[case::default(None, "default.a")]
#[case::named(Some("shop"), "shop.a")]
fn tables_of_a_target_may_be_of_iceberg(#[case] database: Option<&str>, #[case] table: &str) {
    let database = database.map(|name| name.parse().unwrap());
    let target = TargetArgs { format: TargetFormat::Iceberg, database, ..TargetArgs::from("s3://out") };
    for dataset in [target.parquet("a", "x"), target.dataset(ParquetDataset::new("a", "s3://out/x"))] {
        let found = dataset.table().unwrap();
        assert_eq!(found.qualified_name(), table);
        assert_eq!(found, &found.clone().iceberg());
    }
}

#[test]
fn help_says_what_is_where() {
    let help =
        Args::augment_args(Command::new("job").term_width(200)).mut_args(|arg| arg.hide_env_values(true)).render_help();
    assert_snapshot!(help, @"
    Usage: job [OPTIONS]

    Options:
          --source <LOCATION>           Lake root that holds `books/`, for example `s3://my-bucket` or `fixtures/lake` [env: SOURCE] [default: fixtures/lake]
          --source-database <DATABASE>  Database of the catalog whose tables `books` and `authors` are read in place of the files, for example `raw` [env: SOURCE_DATABASE]
          --target <LOCATION>           Lake root that gets `shelf/`, for example `s3://my-bucket` or `target/lake` [env: TARGET] [default: target/lake]
          --target-database <DATABASE>  Database of the catalog whose table `shelf` is written, over the files in the target, for example `glue_reference` [env: TARGET_DATABASE]
          --target-format <FORMAT>      What tables are that the database does not have yet: `parquet` files, or `iceberg` [env: TARGET_FORMAT] [default: parquet]
      -h, --help                        Print help
    ");
}

#[test]
fn data_sets_are_below_the_endpoints() {
    let shop: DatabaseName = "shop".parse().unwrap();
    let source = SourceArgs::from("s3://in").in_database(shop.clone());
    assert_eq!(source.json("a", "x/y"), Dataset::new(JsonFiles::new("a", "s3://in/x/y"), Some(&shop)));
    assert_eq!(source.csv("a", "x/y"), Dataset::new(CsvFiles::new("a", "s3://in/x/y"), Some(&shop)));
    assert_eq!(source.parquet("a", "x/y"), Dataset::new(ParquetFiles::new("a", "s3://in/x/y"), Some(&shop)));
    assert_eq!(source.avro("a", "x/y"), Dataset::new(AvroFiles::new("a", "s3://in/x/y"), Some(&shop)));
    let target = TargetArgs::from("s3://out");
    assert_eq!(target.parquet("a", "x/y"), Dataset::new(ParquetDataset::new("a", "s3://out/x/y"), None));
    assert_eq!((source.join("x"), target.join("x")), ("s3://in/x".into(), "s3://out/x".into()));
}
