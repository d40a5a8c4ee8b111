//! Checks the objects of a state location, one by one.

use std::sync::Arc;

use bytes::Bytes;
use hardtack_core::{Error, Result, RunId};

use crate::backfill;
use crate::ledger::decode_head;
use crate::names::decode_name;
use crate::pipeline;
use crate::records::{AttemptRecord, CommitRecord, JournalEntry, RunRecord, Settlement};
use crate::store::StateStore;

/// The purpose of an object of a state location, according to its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectKind {
    /// The record of a run.
    Run(RunId),
    /// The number up to which commits are settled.
    Head,
    /// The commit of this number.
    Commit(u64),
    /// The settlement of the commit with this number.
    Settled(u64),
    /// The attempt of a run.
    Attempt(RunId),
    /// An entry of the journal of a run.
    Journal(RunId),
    /// The record of a window of a backfill.
    Backfill,
    /// The record of an execution of a pipeline.
    Pipeline,
    /// An object that hardtack never writes.
    Foreign,
}

/// A damaged object.
#[derive(Debug)]
pub struct BrokenObject {
    /// Its key.
    pub key: String,
    /// Its purpose.
    pub kind: ObjectKind,
    /// The job. (A run record belongs to a job, but to no scope.)
    pub job: Option<String>,
    /// The scope.
    pub scope: Option<String>,
    /// The damage.
    pub error: Error,
}

/// Checks every object of a state location. Objects directly in it (an embedded catalog, for example) are not part of
/// the state.
///
/// # Errors
/// Errors of the store. A damaged object is not an error but a finding.
pub async fn broken_objects(state: &Arc<dyn StateStore>) -> Result<Vec<BrokenObject>> {
    let mut broken = Vec::new();
    for key in state.list("", None).await? {
        if !key.contains('/') {
            continue;
        }
        let Some(bytes) = state.get(&key).await? else { continue };
        let (kind, job, scope) = kind_of(&key);
        if let Err(error) = check(&key, &kind, &bytes) {
            broken.push(BrokenObject { key, kind, job, scope, error });
        }
    }
    Ok(broken)
}

/// The kind, job and scope that a key encodes.
fn kind_of(key: &str) -> (ObjectKind, Option<String>, Option<String>) {
    let parts: Vec<&str> = key.split('/').collect();
    let number = |name: &str| name.strip_suffix(".json").filter(|n| n.len() == 12).and_then(|n| n.parse().ok());
    let run = |name: &str| name.strip_suffix(".json").and_then(|run| run.parse().ok());
    let kind = match parts.as_slice() {
        [_, "runs", name] => run(name).map(ObjectKind::Run),
        [_, "backfills", name] => name.ends_with(".json").then_some(ObjectKind::Backfill),
        [_, "pipelines", _, name] => number(name).map(|_: u64| ObjectKind::Pipeline),
        [_, "scopes", _, "head.json"] => Some(ObjectKind::Head),
        [_, "scopes", _, "commits", name] => number(name).map(ObjectKind::Commit),
        [_, "scopes", _, "published", name] => number(name).map(ObjectKind::Settled),
        [_, "scopes", _, "attempts", name] => run(name).map(ObjectKind::Attempt),
        [_, "scopes", _, "attempts", name, _] => name.parse().ok().map(ObjectKind::Journal),
        _ => None,
    };
    let job = parts.first().map(|job| decode_name(job));
    let scope = parts.get(2).filter(|_| parts[1] == "scopes").map(|scope| decode_name(scope));
    (kind.unwrap_or(ObjectKind::Foreign), job, scope)
}

fn check(key: &str, kind: &ObjectKind, bytes: &Bytes) -> Result<()> {
    let is_of = |run: &RunId, wanted: &RunId| match run == wanted {
        true => Ok(()),
        false => Err(Error::unexpected("this is the record of another run").with("run", run)),
    };
    match kind {
        ObjectKind::Run(run) => is_of(&RunRecord::decode(key, bytes)?.run.id, run),
        ObjectKind::Attempt(run) => is_of(&AttemptRecord::decode(bytes)?.run.id, run),
        ObjectKind::Journal(_) => JournalEntry::decode(key, bytes).map(drop),
        ObjectKind::Backfill => backfill::decode(key, bytes).map(drop),
        ObjectKind::Pipeline => pipeline::decode(key, bytes).map(drop),
        ObjectKind::Head => decode_head(key, bytes).map(drop),
        ObjectKind::Settled(_) => Settlement::decode(bytes).map(drop),
        ObjectKind::Commit(number) => match CommitRecord::decode(bytes)?.sequence {
            sequence if sequence == *number => Ok(()),
            other => Err(Error::unexpected("this is the commit of another number").with("number", other)),
        },
        ObjectKind::Foreign => Err(Error::unexpected("this object does not belong to the state")),
    }
}
