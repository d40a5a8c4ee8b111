//! Nobody signs: the feature `aws` is off.

use std::convert::Infallible;

use hardtack_core::Result;
use reqwest::Request;

/// As there is none, its methods are never called.
pub(crate) struct Signer(Infallible);

pub(crate) struct Signed(Infallible);

impl Signer {
    #[expect(clippy::unused_async, reason = "with the feature `aws` it awaits the configuration")]
    pub(crate) async fn configured(_: &str, _: Option<&str>) -> Result<Self> {
        Err(crate::choice::built_without("aws"))
    }

    #[expect(clippy::unused_async, reason = "with the feature `aws` it awaits credentials")]
    pub(crate) async fn sign(&self, _: &mut Request) -> Result<Signed> {
        match self.0 {}
    }

    #[expect(clippy::unused_async, reason = "with the feature `aws` it awaits a lock")]
    pub(crate) async fn give_up(&self, _: &Signed) {
        match self.0 {}
    }
}

impl Signed {
    pub(crate) fn session_token(&self) -> &str {
        match self.0 {}
    }
}
