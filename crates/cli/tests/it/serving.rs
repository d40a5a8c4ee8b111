//! A server in a process of its own, with the processes of its connections.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// `hardtack serve` on a free port of this machine, stopped with its test.
pub struct Serving {
    pub child: Child,
    pub address: SocketAddr,
    said: Arc<Mutex<String>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    pub fn start(folder: &Path, args: &[&str]) -> Self {
        Self::by(Command::new(env!("CARGO_BIN_EXE_hardtack")), folder, args)
    }

    /// Starts it with a limit on the address space of each of its processes, in KiB.
    pub fn within(kibibytes: u64, folder: &Path, args: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -v {kibibytes} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_hardtack")]);
        Self::by(shell, folder, args)
    }

    fn by(mut command: Command, folder: &Path, args: &[&str]) -> Self {
        command.args(["serve", "--postgres", "127.0.0.1:0"]).args(args).current_dir(folder);
        command.env_clear().env("HARDTACK_STATE", "state").env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (mut stderr, into) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&said));
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        let Some(address) = line.strip_prefix("listening on ").and_then(|line| line.split(' ').next()) else {
            let mut rest = String::new();
            let _ = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut rest));
            panic!("no server: {line}{rest}{}", said.lock().unwrap());
        };
        Self { child, address: address.parse().unwrap(), said }
    }

    /// The log of the server and its workers.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Whether the log has panics other than the one with which arrow reports that a batch has more than two gigabytes
    /// of text.
    pub fn has_panicked(&self) -> bool {
        let said = self.said();
        said.matches("panicked at").count() > said.matches("offset overflow").count()
    }

    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host(self.address.ip().to_string()).port(self.address.port()).user("hardtack").dbname("lake");
        config
    }

    pub async fn client(&self) -> Client {
        let (client, connection) = self.config().connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// The processes of its connections.
    pub fn workers(&self) -> Vec<u32> {
        let parent = self.child.id().to_string();
        let processes =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        let ids = processes.filter_map(|name| name.parse().ok());
        ids.filter(|id| status(*id, "PPid:").as_ref() == Some(&parent)).collect()
    }

    /// Waits until there are `wanted` workers.
    pub async fn until_workers(&self, wanted: usize) {
        for _ in 0..200 {
            if self.workers().len() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("there are {} workers, and not {wanted}: {}", self.workers().len(), self.said());
    }

    pub fn signal(&self, signal: &str) {
        kill(self.child.id(), signal);
    }
}

pub fn kill(process: u32, signal: &str) {
    let told = Command::new("kill").args([signal, &process.to_string()]).status().unwrap();
    assert!(told.success());
}

/// A field of the status of a process, if it exists.
pub fn status(process: u32, field: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    // A zombie does not count.
    if text.lines().any(|line| line.starts_with("State:") && line.contains('Z')) {
        return None;
    }
    text.lines().find_map(|line| Some(line.strip_prefix(field)?.trim().to_owned()))
}

/// The SQLSTATE and the message.
pub fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} {}", error.code().code(), error.message()),
        None => format!("? {error}"),
    }
}

/// Whether this message ends a connection.
pub fn is_the_end(said: &str) -> bool {
    ["so the connection does", "than its process may have", "ended unexpectedly"].iter().any(|end| said.contains(end))
}

/// The first value of a response, or the error.
pub async fn value(client: &Client, query: &str) -> String {
    match client.simple_query(query).await {
        Ok(messages) => {
            let rows = messages.iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            });
            rows.take(1).collect()
        }
        Err(error) => said(&error),
    }
}
