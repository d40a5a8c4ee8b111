//! Options are passed to DataFusion.

use datafusion::execution::memory_pool::MemoryConsumer;
use hardtack_catalog::{Catalog, CatalogExt, CatalogOf, Database, EmbeddedCatalog};
use hardtack_core::Location;
use hardtack_runtime::{QueryArgs, RuntimeArgs, open_context};

const MEMORY: usize = 64 << 20;

#[tokio::test]
async fn limits_are_those_of_the_options() {
    let spill = tempfile::tempdir().unwrap();
    let query = QueryArgs { memory_limit: Some(MEMORY), threads: Some(3), spill_dir: Some(spill.path().to_owned()) };
    let options = RuntimeArgs { query, ..RuntimeArgs::default() };
    let ctx = open_context("job", &options).unwrap();
    let (session, env) = (ctx.session(), ctx.session().runtime_env());

    let reservation = MemoryConsumer::new("query").register(&env.memory_pool);
    reservation.try_grow(MEMORY).unwrap();
    let error = reservation.try_grow(1).unwrap_err();
    assert!(error.to_string().contains("0.0 B remain available for the total pool"), "{error}");

    let setting = async |name: &str| {
        let query =
            format!("select value from information_schema.df_settings where name = 'datafusion.execution.{name}'");
        session.sql(&query).await.unwrap().to_string().await.unwrap().lines().nth(3).unwrap().to_owned()
    };
    assert_eq!(setting("target_partitions").await.trim_matches(['|', ' ']), "3");
    assert_eq!(setting("time_zone").await.trim_matches(['|', ' ']), "+00:00");

    // The folder that sorts spill to.
    let file = env.disk_manager.create_tmp_file("a test").unwrap();
    assert!(file.path().starts_with(spill.path()), "{:?}", file.path());
}

#[tokio::test]
async fn the_catalog_is_at_the_state_location_or_where_the_options_say() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| Location::from(folder.path()).join(path);
    let default = RuntimeArgs::with_state(at("state"));
    let mut named = default.clone();
    named.records.catalog = format!("embedded:{}", at("named.db")).parse().unwrap();
    for (options, database) in [(default, "usual"), (named, "named")] {
        let ctx = open_context("job", &options).unwrap();
        assert!(
            !folder.path().join("state").exists() || database == "named",
            "it is not opened before it is asked for"
        );
        ctx.catalog().await.unwrap().ensure_database(&Database::new(database)).await.unwrap();
    }
    for (file, database) in [("state/catalog.sqlite", "usual"), ("named.db", "named")] {
        let found = EmbeddedCatalog::open(&at(file)).unwrap().list_databases().await.unwrap();
        assert_eq!(found.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), [database]);
    }
}
