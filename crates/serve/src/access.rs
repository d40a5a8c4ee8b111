//! Authentication and TLS.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion_postgres::pgwire::api::auth::sasl::SASLAuthStartupHandler;
use datafusion_postgres::pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramAuth, gen_salted_password};
use datafusion_postgres::pgwire::api::auth::{AuthSource, DefaultServerParameterProvider, LoginInfo, Password};
use datafusion_postgres::pgwire::error::PgWireResult;
use hardtack_core::{Error, Result};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{self, ServerConfig};
use uuid::Uuid;

/// The PEM files for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate with its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// Usage for missing or malformed files.
    pub(crate) fn read(&self) -> Result<TlsPair> {
        let usage = |what: &str, file: &PathBuf| {
            Error::usage(format!("expected {what} in PEM format")).with("file", file.display())
        };
        let certificates = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(|found| found.map(|one| Ok(one?.to_vec())).collect::<std::result::Result<Vec<_>, _>>());
        let certificates = certificates.map_err(|e| usage("a certificate", &self.certificate).because(e))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| usage("a private key", &self.key).because(e))?;
        let pair = TlsPair { certificates, key: key.secret_der().to_vec() };
        pair.acceptor().map_err(|e| usage("a certificate with its key", &self.certificate).because(e))?;
        Ok(pair)
    }
}

/// The contents of the files, as DER.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct TlsPair {
    certificates: Vec<Vec<u8>>,
    key: Vec<u8>,
}

impl TlsPair {
    pub(crate) fn acceptor(&self) -> std::result::Result<TlsAcceptor, rustls::Error> {
        let certificates = self.certificates.iter().cloned().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::try_from(self.key.clone()).map_err(|e| rustls::Error::General(e.to_owned()))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates, key)?;
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// A user and a password, of which only the salted hash is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Credentials {
    user: String,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Credentials {
    pub(crate) fn new(user: &str, password: &str) -> Self {
        let salt = Uuid::new_v4().as_bytes().to_vec();
        let hash = gen_salted_password(password, &salt, SCRAM_ITERATIONS);
        Self { user: user.to_owned(), salt, hash }
    }

    /// The handler that authenticates a client.
    pub(crate) fn handshake(&self) -> SASLAuthStartupHandler<DefaultServerParameterProvider> {
        SASLAuthStartupHandler::new(Arc::new(parameters())).with_scram(ScramAuth::new(Arc::new(self.clone())))
    }
}

#[async_trait]
impl AuthSource for Credentials {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Password> {
        // Does not reveal whether the user or the password is wrong.
        let hash = match login.user() == Some(self.user.as_str()) {
            true => self.hash.clone(),
            false => [*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()].concat(),
        };
        Ok(Password::new(Some(self.salt.clone()), hash))
    }
}

/// The server parameters that a client receives.
pub(crate) fn parameters() -> DefaultServerParameterProvider {
    let mut parameters = DefaultServerParameterProvider::default();
    parameters.server_version = format!("16.6 (hardtack {})", env!("CARGO_PKG_VERSION"));
    parameters.is_superuser = false;
    parameters.default_transaction_read_only = true;
    parameters
}
