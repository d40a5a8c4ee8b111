//! `serve` as a process: its output, what it refuses, how it ends, and how its connections affect one another.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rstest::rstest;
use tokio_postgres::{Client, NoTls};

use crate::serving::{Serving, kill, said, value};

fn hardtack(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hardtack"));
    command.args(["serve", "--postgres"]).args(args).current_dir(folder).env_clear().env("HARDTACK_STATE", "state");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server that is stopped with its test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_says_where_it_is_and_ends_when_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server(hardtack(folder.path(), &["127.0.0.1:0"]).spawn().unwrap());
    let mut out = BufReader::new(server.0.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let (address, whom) = line.trim().strip_prefix("listening on ").unwrap().split_once(' ').unwrap();
    assert_eq!(whom, "for everybody on this machine");
    assert!(!address.ends_with(":0"));
    let _client = TcpStream::connect(address).unwrap();
    let told = Command::new("kill").args(["-TERM", &server.0.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn nobody_is_let_in_by_accident() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "sesame\n").unwrap();
    let refused = |args: &[&str], password: Option<&str>| {
        let mut command = hardtack(folder.path(), args);
        let done = command.envs(password.map(|text| ("HARDTACK_SERVE_PASSWORD", text))).output().unwrap();
        assert_eq!((done.status.code(), done.stdout.len()), (Some(2), 0));
        String::from_utf8(done.stderr).unwrap()
    };
    insta::assert_snapshot!(refused(&["0.0.0.0:0"], None), @"hardtack: other machines can reach this address, so a password and TLS are needed (address: 0.0.0.0:0, hint: --password-file or HARDTACK_SERVE_PASSWORD, --tls-cert and --tls-key; or listen on 127.0.0.1)");
    insta::assert_snapshot!(refused(&["0.0.0.0:0", "--password-file", "secret"], None), @"hardtack: other machines can reach this address, so TLS is needed (address: 0.0.0.0:0, hint: --password-file or HARDTACK_SERVE_PASSWORD, --tls-cert and --tls-key; or listen on 127.0.0.1)");
    insta::assert_snapshot!(refused(&["0.0.0.0:0"], Some("sesame")), @"hardtack: other machines can reach this address, so TLS is needed (address: 0.0.0.0:0, hint: --password-file or HARDTACK_SERVE_PASSWORD, --tls-cert and --tls-key; or listen on 127.0.0.1)");
    insta::assert_snapshot!(refused(&["127.0.0.1:0", "--password-file", "secret"], Some("sesame")), @"hardtack: both --password-file and HARDTACK_SERVE_PASSWORD are set; use only one");
    insta::assert_snapshot!(refused(&["127.0.0.1:0", "--password-file", "nope"], None), @"hardtack: no password (file: nope): No such file or directory (os error 2)");
    assert!(refused(&["127.0.0.1:0", "--tls-cert", "cert.pem"], None).contains("--tls-key"));
    assert!(refused(&["127.0.0.1:0", "--statement-timeout", "soon"], None).contains("expected a time"));
}

/// An operator of DataFusion 53 does not yield here: nothing within its own process can stop it.
const ENDLESS: &str = "select count(*) from generate_series(1, 20000000) a cross join generate_series(1, 20000000) b";

/// A running query, and the client that has started it.
async fn busy(
    serving: &Serving,
    query: &'static str,
) -> (tokio::task::JoinHandle<String>, tokio_postgres::CancelToken) {
    let client = serving.client().await;
    let cancel = client.cancel_token();
    let running = tokio::spawn(async move { value(&client, query).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    (running, cancel)
}

async fn answers(client: &Client) {
    let start = Instant::now();
    assert_eq!(value(client, "select 6 * 7").await, "42");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_cannot_be_stopped_is_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &["--statement-timeout", "0s"]);
    let other = serving.client().await;
    let (query, cancel) = busy(&serving, ENDLESS).await;
    let (_another, _) = busy(&serving, ENDLESS).await;
    answers(&other).await;
    answers(&serving.client().await).await;
    cancel.cancel_query(NoTls).await.unwrap();
    let cancelled = tokio::time::timeout(Duration::from_secs(10), query).await.unwrap().unwrap();
    assert!(cancelled.starts_with("57014 canceling statement due to user request"), "{cancelled}");
    answers(&other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_cannot_be_stopped_ends_when_its_time_is_up() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &["--statement-timeout", "1s"]);
    let (query, _) = busy(&serving, ENDLESS).await;
    let late = tokio::time::timeout(Duration::from_secs(10), query).await.unwrap().unwrap();
    assert!(late.starts_with("57014 canceling statement due to statement timeout"), "{late}");
    serving.until_workers(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_cannot_be_stopped_ends_with_its_client() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &["--statement-timeout", "0s"]);
    let (client, connection) = serving.config().connect(NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let query = tokio::spawn(async move { value(&client, ENDLESS).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(serving.workers().len(), 1);
    connection.abort();
    query.abort();
    serving.until_workers(0).await;
}

#[rstest]
#[case::ended_for_its_memory("-KILL", "53200 the query needs more memory than its process may have")]
#[case::refused_memory("-ABRT", "53200 the query needs more memory than its process may have")]
#[case::a_bug("-ILL", "XX000 the process of this connection ended unexpectedly")]
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_worker_is_its_clients_alone(#[case] signal: &str, #[case] told: &str) {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &[]);
    let other = serving.client().await;
    let [others] = serving.workers()[..] else { panic!("{:?}", serving.workers()) };
    let (query, _) = busy(&serving, ENDLESS).await;
    let worker = serving.workers().into_iter().find(|worker| *worker != others).unwrap();
    kill(worker, signal);
    let ended = query.await.unwrap();
    assert!(ended.starts_with(told), "{ended}");
    answers(&other).await;
    serving.until_workers(1).await;
}

/// Memory that no function and no operator accounts for: one long text in each of many rows.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_more_memory_than_it_may_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &["--memory-limit", "64MiB"]);
    let other = serving.client().await;
    let (query, _) = busy(&serving, "select repeat('x', 200000), value from generate_series(1, 100000)").await;
    let ended = query.await.unwrap();
    assert!(ended.starts_with("53200 the query needs more memory than its process may have"), "{ended}");
    answers(&other).await;
    // So much that it cannot even be counted.
    let (query, _) = busy(&serving, "select repeat('x', 10000000), value from generate_series(1, 100000)").await;
    let refused = query.await.unwrap();
    assert!(refused.starts_with("53200 the query needs more memory than a batch"), "{refused}");
    let (query, _) = busy(&serving, "select length(repeat('x', 2000000000))").await;
    let refused = query.await.unwrap();
    assert!(refused.starts_with("53200 the query needs more memory than it may have"), "{refused}");
}

/// Or else a statement could be ended for the memory of the one before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_told_to_give_free_memory_back() {
    const SETTING: &str = "MIMALLOC_PURGE_DELAY=";
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &[]);
    let client = serving.client().await;
    answers(&client).await;
    let workers = serving.workers();
    let environment = std::fs::read(format!("/proc/{}/environ", workers[0])).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let set = environment.split('\0').find_map(|variable| variable.strip_prefix(SETTING));
    let ours = std::env::var("MIMALLOC_PURGE_DELAY").unwrap_or_else(|_| "10".to_owned());
    assert_eq!((workers.len(), set), (1, Some(ours.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_do_not_outlive_their_server() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &["--statement-timeout", "0s"]);
    let (query, _) = busy(&serving, ENDLESS).await;
    let idle = serving.client().await;
    let workers = serving.workers();
    assert_eq!(workers.len(), 2);
    serving.signal("-KILL");
    assert!(query.await.unwrap().starts_with("? "));
    for _ in 0..100 {
        if workers.iter().all(|worker| crate::serving::status(*worker, "Name:").is_none()) {
            assert!(idle.simple_query("select 1").await.is_err());
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{workers:?} go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_stop_lets_statements_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut serving = Serving::start(folder.path(), &[]);
    let idle = serving.client().await;
    let counted =
        "select count(*) from generate_series(1, 3000) a, generate_series(1, 3000) b where a.value + b.value < 0";
    let (query, _) = busy(&serving, counted).await;
    // Signals all of them, as a terminal or a service manager does.
    serving.workers().into_iter().for_each(|worker| kill(worker, "-TERM"));
    serving.signal("-TERM");
    assert_eq!(query.await.unwrap(), "0");
    assert_eq!(serving.child.wait().unwrap().code(), Some(0), "{}", serving.said());
    assert!(idle.simple_query("select 1").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_clients_than_there_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &["--max-connections", "1"]);
    let (query, cancel) = busy(&serving, ENDLESS).await;
    let full = serving.config().connect(NoTls).await.err().unwrap();
    assert_eq!(said(&full), "53300 sorry, too many clients already");
    // A cancel request does not count as a connection.
    cancel.cancel_query(NoTls).await.unwrap();
    let cancelled = query.await.unwrap();
    assert!(cancelled.starts_with("57014 "), "{cancelled}");
}

/// A password and a certificate, which are passed to the workers.
#[tokio::test(flavor = "multi_thread")]
async fn workers_let_in_whom_their_server_does() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for (file, text) in [
        ("secret", "sésame\n".to_owned()),
        ("cert.pem", made.cert.pem()),
        ("key.pem", made.signing_key.serialize_pem()),
    ] {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    let args = ["--password-file", "secret", "--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    let serving = Serving::start(folder.path(), &args);
    // They have been read.
    ["secret", "cert.pem", "key.pem"]
        .into_iter()
        .for_each(|file| std::fs::remove_file(folder.path().join(file)).unwrap());
    let mut roots = tokio_rustls::rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = std::sync::Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let trusting = tokio_rustls::rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let trusting = tokio_postgres_rustls::MakeRustlsConnect::new(trusting);
    let mut config = tokio_postgres::Config::new();
    config.host("localhost").hostaddr(serving.address.ip()).port(serving.address.port()).user("hardtack");
    config.ssl_mode(tokio_postgres::config::SslMode::Require);
    let wrong = config.clone().password("sesame").connect(trusting.clone()).await.err().unwrap();
    assert!(said(&wrong).starts_with("28P01 "), "{}", said(&wrong));
    let (client, connection) = config.password("sésame").connect(trusting.clone()).await.unwrap();
    tokio::spawn(connection);
    answers(&client).await;
    let cancel = client.cancel_token();
    let query = tokio::spawn(async move { value(&client, ENDLESS).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    cancel.cancel_query(trusting).await.unwrap();
    // The worker is killed, and no other process can continue an encrypted connection.
    let ended = tokio::time::timeout(Duration::from_secs(10), query).await.unwrap().unwrap();
    assert!(ended.starts_with("57014 ") || ended.starts_with("? "), "{ended}");
}

#[test]
fn nobody_is_a_worker_by_accident() {
    let folder = tempfile::tempdir().unwrap();
    let done = hardtack(folder.path(), &["127.0.0.1:0", "--worker"]).output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.contains("only a server can start a worker"), "{said}");
}
