//! From what jobs say of themselves to their infrastructure on AWS.
//!
//! A [`JobDescription`](hardtack_runtime::JobDescription), which `JOB --describe` prints, says what a job is, reads and
//! writes. `hardtack.toml` says where it runs: a [`Project`] of [`Environment`]s. Both together give a [`Template`] for
//! CloudFormation, with a [`Policy`] of least privilege for each job. Nothing here talks to AWS.

mod config;
mod diff;
mod policy;
mod retry;
mod schedule;
mod size;
mod template;
mod yaml;

pub use config::{Architecture, Compute, Environment, JobSettings, Pipeline, Project};
pub use diff::Changes;
pub use policy::{Policy, Request};
pub use retry::{RetryAction, RetryStrategy};
pub use template::Template;
