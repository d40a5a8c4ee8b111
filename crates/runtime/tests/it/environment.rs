//! Options reach DataFusion.

use datafusion::execution::memory_pool::MemoryConsumer;
use hardtack_runtime::{RuntimeArgs, open_context};

const MEMORY: usize = 64 << 20;

#[tokio::test]
async fn limits_are_those_of_the_options() {
    let spill = tempfile::tempdir().unwrap();
    let options = RuntimeArgs {
        memory_limit: Some(MEMORY),
        threads: Some(3),
        spill_dir: Some(spill.path().to_owned()),
        ..RuntimeArgs::default()
    };
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

    // Where sorts spill.
    let file = env.disk_manager.create_tmp_file("a test").unwrap();
    assert!(file.path().starts_with(spill.path()), "{:?}", file.path());
}
