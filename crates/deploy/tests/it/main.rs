//! From descriptions of jobs to templates, policies and changes.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod config;
mod policy;
mod template;

use hardtack_core::Location;
use hardtack_deploy::{Environment, Project};
use hardtack_runtime::{ArgumentDescription, JobDefinition, JobDescription, SinkDescription, SourceDescription};

/// What every environment has.
const PROD: &str = r#"
[env.prod]
image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/{job}:{version}"
state = "s3://acme-state/hardtack"
subnets = ["subnet-1"]
security-groups = ["sg-1"]
"#;

/// The environment `prod` with more lines.
fn prod(more: &str) -> Environment {
    Project::parse(&format!("{PROD}{more}")).unwrap().environment("prod").unwrap().clone()
}

/// A job that reads `s3://landing/NAME` and writes `s3://lake/NAME`.
fn job(name: &str) -> JobDescription {
    let argument = |name: &str, required| ArgumentDescription {
        name: name.to_owned(),
        env: None,
        default: None,
        required,
        help: None,
    };
    JobDescription {
        job: JobDefinition {
            name: name.to_owned(),
            version: Some("1.2.3".to_owned()),
            owner: Some("data@example.com".to_owned()),
            ..JobDefinition::default()
        },
        arguments: vec![argument("source", false), argument("target", false), argument("strict", false)],
        sources: vec![source(&format!("s3://landing/{name}"))],
        sinks: vec![sink(&format!("s3://lake/{name}"))],
        problems: Vec::new(),
    }
}

fn source(location: &str) -> SourceDescription {
    SourceDescription {
        name: "in".to_owned(),
        table: None,
        location: Some(Location::from(location)),
        files_beside: false,
        bookmarked: false,
        columns: Vec::new(),
    }
}

fn sink(location: &str) -> SinkDescription {
    SinkDescription {
        name: "out".to_owned(),
        table: None,
        location: Some(Location::from(location)),
        replaces: false,
        deletes: false,
        audited: false,
        columns: Vec::new(),
    }
}
