//! `serve` as a process: what it prints, what it refuses, how it ends.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn hardtack(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hardtack"));
    command.args(["serve", "--postgres"]).args(args).current_dir(folder).env_clear().env("HARDTACK_STATE", "state");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server that is ended with its test.
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
    insta::assert_snapshot!(refused(&["0.0.0.0:0"], None), @"hardtack: others than this machine can reach this address, so a password and TLS are needed (address: 0.0.0.0:0, way out: --password-file or HARDTACK_SERVE_PASSWORD, --tls-cert and --tls-key; or listen on 127.0.0.1)");
    insta::assert_snapshot!(refused(&["0.0.0.0:0", "--password-file", "secret"], None), @"hardtack: others than this machine can reach this address, so TLS is needed (address: 0.0.0.0:0, way out: --password-file or HARDTACK_SERVE_PASSWORD, --tls-cert and --tls-key; or listen on 127.0.0.1)");
    insta::assert_snapshot!(refused(&["0.0.0.0:0"], Some("sesame")), @"hardtack: others than this machine can reach this address, so TLS is needed (address: 0.0.0.0:0, way out: --password-file or HARDTACK_SERVE_PASSWORD, --tls-cert and --tls-key; or listen on 127.0.0.1)");
    insta::assert_snapshot!(refused(&["127.0.0.1:0", "--password-file", "secret"], Some("sesame")), @"hardtack: both --password-file and HARDTACK_SERVE_PASSWORD are set; which one counts?");
    insta::assert_snapshot!(refused(&["127.0.0.1:0", "--password-file", "nope"], None), @"hardtack: no password (file: nope): No such file or directory (os error 2)");
    assert!(refused(&["127.0.0.1:0", "--tls-cert", "cert.pem"], None).contains("--tls-key"));
    assert!(refused(&["127.0.0.1:0", "--statement-timeout", "soon"], None).contains("wanted is a time"));
}
