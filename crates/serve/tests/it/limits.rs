//! Limits, and how statements are stopped.

use std::time::{Duration, Instant};

use hardtack_serve::ServeOptions;
use insta::assert_snapshot;
use rstest::rstest;
use tokio_postgres::NoTls;

use crate::served::{Served, options, said, texts};

/// A practically endless query. It holds one batch at a time: one that collects rows could reach the memory limit
/// before the limit under test.
const LONG: &str = "select count(*) from generate_series(1, 1000000000000000) a where a.value < 0";

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_take_too_long_are_cancelled() {
    let limit = Some(Duration::from_millis(300));
    let served = Served::with(ServeOptions { statement_timeout: limit, ..options() }).await;
    let client = served.client().await;
    let start = Instant::now();
    assert_snapshot!(texts(&client, LONG).await, @"57014 canceling statement due to statement timeout");
    assert_eq!(said(&client.query(LONG, &[]).await.unwrap_err()), "57014 canceling statement due to statement timeout");
    // A client cannot ask for more.
    assert_eq!(texts(&client, "set statement_timeout = '1h'").await, "");
    assert!(texts(&client, LONG).await.starts_with("57014"));
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(texts(&client, "select 1").await, "1");
}

/// Deep statements are executed; those that are too deep are refused, and the server survives.
#[rstest]
#[case::parentheses("(", 24, ")")]
#[case::calls("abs(", 10, ")")]
#[case::cases("case when true then ", 20, " end")]
#[case::sums("", 600, "+1")]
#[tokio::test(flavor = "multi_thread")]
async fn statements_may_be_complex(#[case] before: &str, #[case] levels: usize, #[case] after: &str) {
    let served = Served::new().await;
    let client = served.client().await;
    let nested = |levels: usize| format!("select {}1{}", before.repeat(levels), after.repeat(levels));
    let borne = nested(levels);
    assert_eq!(texts(&client, &borne).await, if after == "+1" { "601" } else { "1" });
    client.query(&borne, &[]).await.unwrap();
    let refused = nested(100_000);
    let said = [texts(&client, &refused).await, said(&client.query(&refused, &[]).await.unwrap_err())];
    assert!(said.iter().all(|said| said.starts_with("54001 the statement is too complex")), "{said:?}");
    assert_eq!(texts(&client, "select 1").await, "1");
}

#[rstest]
#[case("set statement_timeout = '200ms'")]
#[case("set session \"Statement_Timeout\" to 200")]
#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_ask_for_less(#[case] less: &str) {
    let limit = Some(Duration::from_secs(3));
    let served = Served::with(ServeOptions { statement_timeout: limit, ..options() }).await;
    let client = served.client().await;
    let takes = async || {
        let start = Instant::now();
        assert!(texts(&client, LONG).await.starts_with("57014"));
        start.elapsed()
    };
    assert_eq!(texts(&client, less).await, "");
    assert!(takes().await < Duration::from_secs(2));
    assert_eq!(texts(&client, "reset statement_timeout").await, "");
    assert!(takes().await >= Duration::from_secs(3));
    // As drivers send it:
    client.execute(less, &[]).await.unwrap();
    assert!(takes().await < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_can_cancel() {
    let served = Served::new().await;
    let client = served.client().await;
    let token = client.cancel_token();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await.unwrap();
    };
    let (said, ()) = tokio::join!(texts(&client, LONG), cancel);
    assert_eq!(said, "57014 canceling statement due to user request");
    assert_eq!(texts(&client, "select 1").await, "1");
}

/// One thread for the server's network and for the client, so that a query that keeps it busy is noticed.
#[tokio::test]
async fn queries_do_not_keep_the_network_waiting() {
    let served = Served::new().await;
    let client = served.client().await;
    // Each batch takes a second without yielding.
    let busy = "select count(sha512(repeat(a.value::varchar, 300))) from generate_series(1000, 1000000000) a";
    let start = Instant::now();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let _other = served.client().await;
        client.cancel_token().cancel_query(NoTls).await.unwrap();
    };
    let (said, ()) = tokio::join!(texts(&client, busy), cancel);
    assert_eq!(said, "57014 canceling statement due to user request");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_needs_too_much_memory_is_refused_and_others_go_on() {
    let served = Served::with(ServeOptions { memory_limit: 1 << 20, ..options() }).await;
    let (client, other) = (served.client().await, served.client().await);
    // This has to be held as a whole and cannot spill.
    let large =
        "select length(string_agg(cast(value as varchar) || repeat('x', 1000), ',')) from generate_series(1, 100000)";
    let said = texts(&client, large).await;
    assert!(said.starts_with("53200 the query needs more memory than it may have"), "{said}");
    assert_eq!(tokio::join!(texts(&client, "select 1"), texts(&other, "select 2")), ("1".to_owned(), "2".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_asked_for_stops_when_it_goes() {
    let served = Served::with(ServeOptions { max_connections: 1, statement_timeout: None, ..options() }).await;
    let (client, connection) = served.config().connect(NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let query = tokio::spawn(async move { client.simple_query(LONG).await.map(|_| ()) });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let full = served.config().connect(NoTls).await.err().unwrap();
    assert_eq!(said(&full), "53300 sorry, too many clients already");
    connection.abort();
    query.abort();
    // Its slot is free again, so its query has ended.
    for _ in 0..100 {
        if let Ok((client, connection)) = served.config().connect(NoTls).await {
            tokio::spawn(connection);
            assert_eq!(texts(&client, "select 1").await, "1");
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the query of a client that has gone goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_stop_lets_statements_end() {
    let mut served = Served::new().await;
    let (client, idle) = (served.client().await, served.client().await);
    let query =
        "select count(*) from generate_series(1, 3000) a, generate_series(1, 3000) b where a.value + b.value < 0";
    let address = served.address;
    let stop = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        served.stop();
    };
    let (counted, ()) = tokio::join!(texts(&client, query), stop);
    assert_eq!(counted, "0");
    tokio::time::timeout(Duration::from_secs(5), &mut served.running).await.unwrap().unwrap().unwrap();
    assert!(texts(&idle, "select 1").await.starts_with("? "));
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_without_end_does_not_hold_up_the_end() {
    let mut served = Served::with(ServeOptions { grace: Duration::from_millis(200), ..options() }).await;
    let client = served.client().await;
    let stop = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        served.stop();
    };
    let (said, ()) = tokio::join!(texts(&client, LONG), stop);
    assert!(said.starts_with("? "), "{said}");
    tokio::time::timeout(Duration::from_secs(5), &mut served.running).await.unwrap().unwrap().unwrap();
}
