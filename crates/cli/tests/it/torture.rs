//! Hostile clients, and one that sends `select 1` ten times a second.
//!
//! `HARDTACK_TORTURE_ROUNDS` sets the number of attacks (500 take some minutes), `HARDTACK_TORTURE_SEED` the seed.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio_postgres::{Client, NoTls};

use crate::serving::{Serving, is_the_end, status, value};

/// Pseudo-random numbers, determined by the seed (`SplitMix64`).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// An attack on the server.
enum Attack {
    /// A statement, and the prefixes of the outcomes that a client may see.
    Statement(String, &'static [&'static str]),
    /// A statement that its client cancels.
    Cancelled(&'static str),
    /// A statement whose client disconnects.
    Abandoned(&'static str),
    /// A statement whose client does not read the response for a while, and then disconnects.
    Unread(&'static str),
    /// Bytes that violate the protocol, instead of a greeting or after one.
    Garbage { greeting: bool },
}

const ENDLESS: &str = "select count(*) from generate_series(1, 20000000) a cross join generate_series(1, 20000000) b";
const LONG: &str = "select count(*) from generate_series(1, 1000000000000000) a where a.value < 0";
const MANY_ROWS: &str = "select value, value || 'x' from generate_series(1, 100000000)";

const TIMEOUT: &[&str] = &["57014"];
/// Refused before the memory is allocated; on a busy machine the timeout may come first.
const MEMORY: &[&str] = &["53200", "57014"];
/// May be too large or too slow.
const EITHER: &[&str] = &["57014", "53200"];
/// Nested too deeply; on a busy machine the timeout may come first.
const COMPLEX: &[&str] = &["54001", "57014"];
const DENIED: &[&str] = &["42501", "42704"];
const WRITES: &[&str] = &["25006"];

/// Attacks that consist of a statement.
const STATEMENTS: &[(&str, &[&str])] = &[
    (ENDLESS, TIMEOUT),
    (LONG, TIMEOUT),
    ("with recursive t as (select 1 as n union all select n + 1 from t) select count(*) from t", EITHER),
    ("select sum(length(repeat('x', 100000000 + value))) from generate_series(1, 100)", MEMORY),
    ("select length(lpad('x', 2000000000, 'y'))", MEMORY),
    ("select max(length(rpad('x', 2000000000 - value))) from generate_series(1, 10)", MEMORY),
    ("select cardinality(range(1, 10000000000))", MEMORY),
    ("select max(cardinality(generate_series(1, 1000000000 + value))) from generate_series(1, 10)", MEMORY),
    ("select cardinality(array_repeat(repeat('x', 1000), 1000000000))", MEMORY),
    ("select length(replace(repeat('x', 1000000), 'x', repeat('y', 1000000)))", MEMORY),
    ("select length(regexp_replace(repeat('x', 1000000), 'x', repeat('y', 1000000), 'g'))", EITHER),
    ("select length(string_agg(repeat('x', 100000), ',')) from generate_series(1, 100000)", EITHER),
    ("select cardinality(array_agg(repeat('x', 10000) || value)) from generate_series(1, 100000)", EITHER),
    (
        "select max(length(a.v || b.v)) from (select repeat('x', 10000000) as v) a, (select repeat('y', 1000) || value as v from generate_series(1, 100000)) b",
        EITHER,
    ),
    ("select repeat('x', 10000000), value from generate_series(1, 100000)", EITHER),
    (
        "select count(*) from (select unnest(range(1, 20000000)), repeat('x', 100) || value from generate_series(1, 10))",
        EITHER,
    ),
    ("select count(distinct md5(value::text)) from generate_series(1, 1000000000)", EITHER),
    (
        "select max(n) from (select row_number() over (order by value desc) as n from generate_series(1, 100000000))",
        EITHER,
    ),
    (
        "select count(*) from generate_series(1, 100000000) a join generate_series(1, 100000000) b on a.value % 7 = b.value % 7",
        EITHER,
    ),
    ("set \"datafusion.runtime.memory_limit\" = '8G'", DENIED),
    ("set DataFusion.Runtime.temp_directory = '/tmp/hardtack-torture'", DENIED),
    ("set session \"datafusion.execution.target_partitions\" to 20000", DENIED),
    ("set local \"datafusion\".\"execution\".\"batch_size\" = 1000000000", DENIED),
    ("reset \"datafusion.runtime.memory_limit\"", DENIED),
    ("set max_connections = 100000", DENIED),
    ("drop table lake.books", WRITES),
    ("create external table x (a int) stored as csv location '/etc/passwd'", &["25006", "42601"]),
    ("copy (select 1) to '/tmp/hardtack-torture'", WRITES),
];

impl Attack {
    fn any(random: &mut Random) -> Self {
        let size = 1 + random.below(100_000);
        match random.below(STATEMENTS.len() + 12) {
            0 | 1 => Self::Cancelled(ENDLESS),
            2 => Self::Cancelled(LONG),
            3 => Self::Abandoned(ENDLESS),
            4 => Self::Abandoned(MANY_ROWS),
            5 => Self::Unread(MANY_ROWS),
            6 => Self::Garbage { greeting: true },
            7 => Self::Garbage { greeting: false },
            8 => Self::Statement(format!("select {}1{}", "(".repeat(100 + size), ")".repeat(100 + size)), COMPLEX),
            9 => Self::Statement(format!("select {}1{}", "abs(".repeat(100 + size), ")".repeat(100 + size)), COMPLEX),
            10 => Self::Statement(format!("select 1 where {}", vec!["1 = 1"; 1000 + size].join(" or ")), COMPLEX),
            11 => {
                let list: Vec<String> = (0..size).map(|i| i.to_string()).collect();
                let list = list.join(", ");
                Self::Statement(
                    format!("select count(*) from generate_series(1, 1000) where value in ({list})"),
                    &["", "57014"],
                )
            }
            n => {
                let (statement, ends) = STATEMENTS[n - 12];
                Self::Statement(statement.to_owned(), ends)
            }
        }
    }
}

/// An attacker.
struct Attacker<'a> {
    serving: &'a Serving,
    client: Option<Client>,
    random: Random,
    seen: BTreeMap<String, usize>,
}

impl Attacker<'_> {
    async fn client(&mut self) -> &Client {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = Some(self.serving.client().await);
        }
        self.client.as_ref().unwrap()
    }

    /// Does not use a connection again that has ended.
    fn hear(&mut self, said: &str) {
        if is_the_end(said) {
            self.client = None;
        }
    }

    async fn attack(&mut self) {
        let attack = Attack::any(&mut self.random);
        let start = Instant::now();
        let outcome = match attack {
            Attack::Statement(statement, ends) => {
                let said = value(self.client().await, &statement).await;
                self.hear(&said);
                let shown: String = statement.chars().take(200).collect();
                // A successful response does not begin with a code.
                let ended = ends.iter().find(|end| {
                    if end.is_empty() { said == "1000" || said.parse::<u64>().is_ok() } else { said.starts_with(**end) }
                });
                assert!(ended.is_some(), "{shown}: {said}");
                if ended.is_some_and(|end| end.is_empty()) { "answered".to_owned() } else { said[..5].to_owned() }
            }
            Attack::Cancelled(statement) => {
                let (wait, client) = (self.random.below(400) as u64, self.client().await);
                let token = client.cancel_token();
                let cancel = async {
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                    token.cancel_query(NoTls).await.unwrap();
                };
                let (said, ()) = tokio::join!(value(client, statement), cancel);
                assert!(said.starts_with("57014 "), "{statement}: {said}");
                self.hear(&said);
                "57014 when cancelled".to_owned()
            }
            Attack::Abandoned(statement) => {
                let (client, connection) = self.serving.config().connect(NoTls).await.unwrap();
                let connection = tokio::spawn(connection);
                let query = tokio::spawn(async move { client.simple_query(statement).await.map(drop) });
                tokio::time::sleep(Duration::from_millis(self.random.below(400) as u64)).await;
                connection.abort();
                query.abort();
                "abandoned".to_owned()
            }
            Attack::Unread(statement) => {
                let mut socket = self.greet();
                let query = [statement.as_bytes(), b"\0"].concat();
                socket.write_all(&[&b"Q"[..], &(query.len() as u32 + 4).to_be_bytes(), &query].concat()).unwrap();
                tokio::time::sleep(Duration::from_millis(300)).await;
                "unread".to_owned()
            }
            Attack::Garbage { greeting } => {
                let mut socket = if greeting { self.greet() } else { self.connect() };
                let bytes: Vec<u8> = (0..self.random.below(5000)).map(|_| self.random.next() as u8).collect();
                // The connection may be closed before all bytes are sent.
                let _ = socket.write_all(&bytes);
                let _ = socket.read(&mut [0; 1000]);
                "garbage".to_owned()
            }
        };
        // One second until the time limit, two until the worker is killed, and only two cores for everything.
        assert!(start.elapsed() < Duration::from_secs(20), "{outcome} after {:?}", start.elapsed());
        *self.seen.entry(outcome).or_default() += 1;
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.serving.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        socket
    }

    /// A connection whose client has sent its greeting.
    fn greet(&self) -> TcpStream {
        let mut socket = self.connect();
        let greeting = [&196_608_u32.to_be_bytes()[..], b"user\0hardtack\0database\0lake\0\0"].concat();
        socket.write_all(&(greeting.len() as u32 + 4).to_be_bytes()).unwrap();
        socket.write_all(&greeting).unwrap();
        let _ = socket.read(&mut [0; 1000]);
        socket
    }
}

/// The peak memory of the processes of a server, in KiB.
#[derive(Debug, Default)]
struct Peaks {
    /// All of them together.
    together: u64,
    /// A single one: memory and address space.
    one: u64,
    addresses: u64,
}

impl Peaks {
    fn look(&mut self, serving: &Serving) {
        let size = |process: u32, field: &str| -> u64 {
            let text = status(process, field).unwrap_or_default();
            text.trim_end_matches(" kB").parse().unwrap_or_default()
        };
        let processes: Vec<u32> = serving.workers().into_iter().chain([serving.child.id()]).collect();
        self.together = self.together.max(processes.iter().map(|process| size(*process, "VmRSS:")).sum());
        let most = |field| processes.iter().map(|process| size(*process, field)).max().unwrap_or_default();
        (self.one, self.addresses) = (self.one.max(most("VmHWM:")), self.addresses.max(most("VmPeak:")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_clients_do_others_are_answered() {
    let (rounds, seed) = (setting("HARDTACK_TORTURE_ROUNDS", ROUNDS), setting("HARDTACK_TORTURE_SEED", 1));
    eprintln!("{rounds} attacks, seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    let limits = ["--memory-limit", "256MiB", "--statement-timeout", "1s", "--threads", "2"];
    let mut serving = Serving::within(4 << 20, folder.path(), &limits);
    let start = Instant::now();
    let (left, ended) = (Arc::new(AtomicUsize::new(rounds as usize)), AtomicBool::new(false));

    let attackers = (0..4).map(|i| {
        let (left, serving) = (Arc::clone(&left), &serving);
        async move {
            let random = Random(seed.wrapping_mul(4).wrapping_add(i));
            let mut attacker = Attacker { serving, client: None, random, seen: BTreeMap::new() };
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                attacker.attack().await;
            }
            attacker.seen
        }
    });
    let attackers = async {
        let seen = join_all(attackers).await;
        ended.store(true, Ordering::Relaxed);
        seen
    };
    let fifth = async {
        let (client, mut waits) = (serving.client().await, Vec::new());
        while !ended.load(Ordering::Relaxed) {
            let asked = Instant::now();
            assert_eq!(value(&client, "select 1").await, "1");
            waits.push(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        waits.sort();
        waits
    };
    let watch = async {
        let mut peaks = Peaks::default();
        while !ended.load(Ordering::Relaxed) {
            peaks.look(&serving);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        peaks
    };
    let (seen, waits, peaks) = tokio::join!(attackers, fifth, watch);

    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    seen.into_iter().flatten().for_each(|(outcome, n)| *all.entry(outcome).or_default() += n);
    let (median, worst) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    eprintln!("{:?}: {all:?}", start.elapsed());
    eprintln!("select 1, {} times: {median:?} in the middle, {worst:?} at worst", waits.len());
    eprintln!(
        "memory at most: {} MiB of all processes, {} MiB of one, which had {} MiB of addresses",
        peaks.together >> 10,
        peaks.one >> 10,
        peaks.addresses >> 10
    );
    assert!(worst < Duration::from_secs(1), "somebody has waited {worst:?}");
    assert!(peaks.addresses <= 4 << 20);
    assert_eq!(all.values().sum::<usize>(), rounds as usize);
    // All attackers are gone, and the server is as good as new.
    serving.until_workers(0).await;
    assert_eq!(value(&serving.client().await, "select 6 * 7").await, "42");
    assert!(!serving.has_panicked(), "{}", serving.said());
    serving.signal("-TERM");
    assert_eq!(serving.child.wait().unwrap().code(), Some(0), "{}", serving.said());
}

/// This many take half a minute on two cores.
const ROUNDS: u64 = 80;
