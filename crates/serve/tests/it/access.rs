//! Authentication and TLS.

use std::path::PathBuf;
use std::sync::Arc;

use hardtack_core::{ErrorKind, JobContext};
use hardtack_serve::{ServeOptions, Server, TlsFiles};
use insta::assert_snapshot;
use rstest::rstest;
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::served::{Served, options, said, texts};

fn with_password() -> ServeOptions {
    ServeOptions { password: Some("sésame".to_owned()), ..options() }
}

#[tokio::test]
async fn a_password_is_checked() {
    let served = Served::with(with_password()).await;
    let mut config = served.config();
    let (client, connection) = config.password("sésame").connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(texts(&client, "select 1").await, "1");
    for (user, password) in [("hardtack", "sesame"), ("postgres", "sésame"), ("hardtack", "")] {
        let mut config = served.config();
        let refused = config.user(user).password(password).connect(NoTls).await.err().unwrap();
        assert!(said(&refused).starts_with("28P01 "), "{user}: {}", said(&refused));
    }
    assert!(served.config().connect(NoTls).await.is_err());
}

/// A client that continues after it was refused.
#[tokio::test]
async fn who_was_refused_is_not_answered() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let served = Served::with(with_password()).await;
    let mut socket = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let message = |kind: Option<u8>, body: &[u8]| {
        let mut bytes: Vec<u8> = kind.into_iter().collect();
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    };
    let startup = [&196_608_u32.to_be_bytes()[..], b"user\0hardtack\0database\0lake\0\0"].concat();
    socket.write_all(&message(None, &startup)).await.unwrap();
    let nonsense = [&b"SCRAM-SHA-256\0"[..], &3_u32.to_be_bytes(), b"abc"].concat();
    socket.write_all(&message(Some(b'p'), &nonsense)).await.unwrap();
    socket.write_all(&message(Some(b'Q'), b"select 'sec' || 'ret'\0")).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), socket.read_to_end(&mut answer)).await;
    assert!(!String::from_utf8_lossy(&answer).contains("secret"));
}

/// A certificate for this machine, its key, and a connector that trusts it.
fn certificate(folder: &tempfile::TempDir) -> (TlsFiles, MakeRustlsConnect) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let put = |name: &str, text: String| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let files = TlsFiles {
        certificate: put("cert.pem", made.cert.pem()),
        key: put("key.pem", made.signing_key.serialize_pem()),
    };
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (files, MakeRustlsConnect::new(config))
}

#[tokio::test]
async fn with_tls_nobody_connects_without() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, trusting) = certificate(&folder);
    let served = Served::with(ServeOptions { tls: Some(tls), ..with_password() }).await;
    let mut config = served.config();
    config.password("sésame");
    let refused = config.clone().ssl_mode(SslMode::Disable).connect(NoTls).await.err().unwrap();
    assert_eq!(said(&refused), "28000 TLS is required here: connect with sslmode=require");
    // By name, as in the certificate.
    let mut config = tokio_postgres::Config::new();
    config.host("localhost").hostaddr(served.address.ip()).port(served.address.port());
    config.user("hardtack").dbname("lake").password("sésame").ssl_mode(SslMode::Require);
    let (client, connection) = config.connect(trusting).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(texts(&client, "select count(*) from books").await, "3");
}

#[rstest]
#[case::nothing(None, false, "other machines can reach this address, so a password and TLS are needed")]
#[case::no_tls(Some("x"), false, "other machines can reach this address, so TLS is needed")]
#[case::no_password(None, true, "other machines can reach this address, so a password is needed")]
#[tokio::test]
async fn nobody_else_is_let_in_by_accident(#[case] password: Option<&str>, #[case] tls: bool, #[case] why: &str) {
    let folder = tempfile::tempdir().unwrap();
    let options = ServeOptions {
        address: "0.0.0.0:0".to_owned(),
        password: password.map(str::to_owned),
        tls: tls.then(|| certificate(&folder).0),
        ..options()
    };
    let error = Server::bind(&JobContext::builder("serve").build().unwrap(), options).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Usage, why));
}

#[tokio::test]
async fn what_cannot_work_is_said() {
    let ctx = JobContext::builder("serve").build().unwrap();
    let refused = async |options: ServeOptions| Server::bind(&ctx, options).await.unwrap_err().to_string();
    assert_snapshot!(refused(ServeOptions { address: "nonsense".to_owned(), ..options() }).await, @"cannot listen on this address; expected one such as `127.0.0.1:5432` (address: nonsense)");
    assert_snapshot!(refused(ServeOptions { password: Some(String::new()), ..options() }).await, @"the password is empty");
    let missing = TlsFiles { certificate: "/nope.pem".into(), key: "/nope.pem".into() };
    assert_snapshot!(refused(ServeOptions { tls: Some(missing), ..options() }).await, @"expected a certificate in PEM format (file: /nope.pem)");
    assert_snapshot!(refused(options()).await, @"a table is named, but this context has no catalog (hint: give it one: `.extension(Arc::new(CatalogHandle::new(catalog)))`)");
    let taken = Served::new().await;
    let again = ServeOptions { address: taken.address.to_string(), ..options() };
    let error = Server::bind(&taken.ctx, again).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}
