//! Abandons a commit that can never be published. A person decides this, knowing the consequences.

use std::collections::BTreeMap;
use std::fmt;

use futures::{StreamExt, TryStreamExt};
use hardtack_core::{JobContext, Location, PublishAction, Result};
use hardtack_state::{Abandonment, CommitRecord, Ledger, Settlement};
use object_store::ObjectStoreExt;

use crate::recover::sweep;

/// The files and steps that abandoning a commit would leave unpublished.
#[derive(Debug)]
pub struct Unpublished {
    sequence: u64,
    /// `None` if its record is damaged: then its content is unknown.
    commit: Option<CommitRecord>,
    sinks: BTreeMap<String, UnpublishedSink>,
}

/// The files and steps that a sink would leave unpublished.
#[derive(Debug, Default)]
struct UnpublishedSink {
    /// Files that will not appear.
    hidden: Vec<Location>,
    /// Files that have already appeared, and stay.
    visible: Vec<Location>,
    /// Superseded files that will not be deleted.
    kept: Vec<Location>,
    /// Steps of publishers, for example tables that will not point to the new files.
    steps: Vec<String>,
}

/// The number of files that are checked concurrently.
const CONCURRENCY: usize = 64;

impl Unpublished {
    /// Examines a commit and the files that it publishes, without changing anything.
    ///
    /// # Errors
    /// [`NotFound`](hardtack_core::ErrorKind::NotFound) if there is no such commit;
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if it is published, or was written by a newer version; errors of the
    /// stores.
    pub async fn of(ctx: &JobContext, ledger: &Ledger, sequence: u64) -> Result<Self> {
        let commit = ledger.abandonable(sequence).await?;
        let mut sinks = BTreeMap::new();
        for (sink, actions) in commit.iter().flat_map(|commit| &commit.publish) {
            sinks.insert(sink.clone(), UnpublishedSink::of(ctx, actions).await?);
        }
        Ok(Self { sequence, commit, sinks })
    }
}

impl UnpublishedSink {
    async fn of(ctx: &JobContext, actions: &[PublishAction]) -> Result<Self> {
        let mut found = Self::default();
        let checked: Vec<(&PublishAction, bool)> = futures::stream::iter(actions)
            .map(|action| async move { Ok::<_, hardtack_core::Error>((action, has_appeared(ctx, action).await?)) })
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        for (action, has_appeared) in checked {
            match action {
                PublishAction::CompleteUpload { location, .. } | PublishAction::RenameFile { to: location, .. } => {
                    let files = if has_appeared { &mut found.visible } else { &mut found.hidden };
                    files.push(location.clone());
                }
                PublishAction::Delete { location } => found.kept.push(location.clone()),
                PublishAction::Foreign { publisher, payload, .. } => {
                    found.steps.push(ctx.publishers().describe(publisher, payload));
                }
            }
        }
        Ok(found)
    }
}

/// Whether the file of an action has appeared, judging by its size.
async fn has_appeared(ctx: &JobContext, action: &PublishAction) -> Result<bool> {
    let (PublishAction::CompleteUpload { location, bytes, .. } | PublishAction::RenameFile { to: location, bytes, .. }) =
        action
    else {
        return Ok(false);
    };
    let (store, path) = ctx.stores().open(location)?;
    match store.objects.head(&path).await {
        Ok(meta) => Ok(meta.size == *bytes),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(e) => Err(hardtack_core::Error::from(e).with("file", location)),
    }
}

/// The maximum number of files of a kind that are listed.
const MAX_LISTED: usize = 10;

fn list(f: &mut fmt::Formatter<'_>, what: &str, files: &[Location]) -> fmt::Result {
    if files.is_empty() {
        return Ok(());
    }
    writeln!(f, "    {what}:")?;
    for file in files.iter().take(MAX_LISTED) {
        writeln!(f, "      {file}")?;
    }
    match files.len().saturating_sub(MAX_LISTED) {
        0 => Ok(()),
        more => writeln!(f, "      ... and {more} more"),
    }
}

impl fmt::Display for Unpublished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(commit) = &self.commit else {
            writeln!(f, "commit {} has a damaged record, so what it would publish is unknown.", self.sequence)?;
            return f.write_str("Nothing of it will be published. What its run has staged is discarded.\n");
        };
        let (sequence, run) = (commit.sequence, &commit.run);
        let committed = commit.committed_at.format("%Y-%m-%dT%H:%M:%SZ");
        writeln!(f, "commit {sequence} of {} ({}), of run {}, committed at {committed}.", run.job, run.scope, run.id)?;
        writeln!(f, "What stays unpublished, as far as it has not happened yet:")?;
        for (name, sink) in &self.sinks {
            writeln!(f, "  sink {name}")?;
            list(f, "files that do not appear", &sink.hidden)?;
            list(f, "superseded files that are not deleted", &sink.kept)?;
            for step in &sink.steps {
                writeln!(f, "    {step}")?;
            }
            list(f, "files that have appeared already, and stay", &sink.visible)?;
        }
        if !commit.bookmarks.is_empty() {
            writeln!(f, "Bookmarks go back to those of the last commit that was published.")?;
        }
        f.write_str("What its run has staged is discarded. This cannot be undone.\n")
    }
}

/// Abandons a commit, and discards its staged files. The caller must have shown [`Unpublished`] to a person who has
/// confirmed.
///
/// The first step settles the commit, and is final; if the process is killed after it, the next run or recovery
/// discards the rest.
///
/// # Errors
/// Those of [`Ledger::abandon`]; [`Usage`](hardtack_core::ErrorKind::Usage) if the commit was published meanwhile.
pub async fn abandon(ctx: &JobContext, ledger: &Ledger, sequence: u64, by: &Abandonment) -> Result<Abandonment> {
    match ledger.abandon(sequence, by).await? {
        Settlement::Abandoned(abandonment) => {
            tracing::info!(job = ledger.job(), scope = ledger.scope(), sequence, "abandoned {abandonment}");
            sweep(ctx, ledger).await?;
            Ok(abandonment)
        }
        Settlement::Published { .. } => Err(ledger.already_published(sequence)),
    }
}
