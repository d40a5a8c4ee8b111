//! Requests with AWS's Signature Version 4.

#[cfg(feature = "aws")]
mod aws;
#[cfg(not(feature = "aws"))]
mod without;

#[cfg(feature = "aws")]
pub(crate) use aws::{Signer, configuration};
#[cfg(not(feature = "aws"))]
pub(crate) use without::Signer;
