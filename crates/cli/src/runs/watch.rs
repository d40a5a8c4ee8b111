//! Runs as they begin and end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use futures::StreamExt;
use hardtack_core::{ErrorKind, Result, RunId};
use hardtack_runtime::Stop;
use hardtack_state::{Ledger, RunRecord, RunStatus, StateStore};

use super::select::Select;
use super::{as_json, rows, seconds, status_name, table};
use crate::bookmark::time;

/// The number of records that are read concurrently.
const CONCURRENCY: usize = 32;

/// The lines of a terminal that are not for runs: the title, the header with its rule, and the cursor's.
const OTHER_LINES: usize = 4;

/// What is followed.
pub(super) struct Watch<'a> {
    pub(super) state: &'a Arc<dyn StateStore>,
    /// All, if it is `None`.
    pub(super) job: Option<&'a str>,
    pub(super) select: &'a Select,
    pub(super) interval: Duration,
    pub(super) json: bool,
}

impl Watch<'_> {
    /// Shows runs until a signal arrives or nobody reads any more: a table that is drawn again and again on a terminal,
    /// and otherwise a line for each run and each change of its status.
    ///
    /// # Errors
    /// Errors of the store, unless they may pass and it has been read before.
    pub(super) async fn run(&self) -> Result<()> {
        let mut stop = Stop::listen()?;
        let is_screen = std::io::stdout().is_terminal() && !self.json;
        let mut known = Known::default();
        let mut is_first = true;
        loop {
            let changed = match known.read(self).await {
                Ok(changed) => changed,
                Err(error) if !is_first && error.is_retryable() => {
                    let _ = writeln!(std::io::stderr(), "hardtack: {}", error.chain());
                    Vec::new()
                }
                Err(error) => return Err(error),
            };
            let text = match is_screen {
                true => self.screen(&known),
                false => self.lines(&known, &changed, is_first)?,
            };
            let mut out = std::io::stdout();
            if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
                return Ok(());
            }
            is_first = false;
            tokio::select! {
                biased;
                () = stop.wait() => return Ok(()),
                () = tokio::time::sleep(self.interval) => {}
            }
        }
    }

    /// The newest runs that fit on the terminal, over what it showed before.
    fn screen(&self, known: &Known) -> String {
        let runs = known.selected(self.select);
        let size = terminal_size::terminal_size();
        let fitting = size.map_or(usize::MAX, |(_, height)| usize::from(height.0).saturating_sub(OTHER_LINES).max(1));
        let runs = self.select.last(&runs);
        let runs = &runs[runs.len().saturating_sub(fitting)..];
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let text = format!("{now}, every {} (Ctrl-C ends)\n{}", seconds_text(self.interval), table(runs));
        // Moves to the corner, and erases the rest of each line and of the screen: without flicker.
        format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
    }

    fn lines(&self, known: &Known, changed: &[Key], is_first: bool) -> Result<String> {
        let all: Vec<&RunRecord> = changed.iter().filter_map(|key| known.runs.get(key)).collect();
        let mut wanted: Vec<&RunRecord> = all.into_iter().filter(|record| self.select.wants(record)).collect();
        wanted.sort_by_key(|record| record.run.started_at);
        let wanted = if is_first { self.select.last(&wanted) } else { &wanted[..] };
        let line = |record: &&RunRecord| if self.json { as_json(record) } else { Ok(line(record)) };
        wanted.iter().map(line).collect()
    }
}

fn seconds_text(interval: Duration) -> String {
    format!("{} s", interval.as_secs_f64())
}

/// A run in a line.
fn line(record: &RunRecord) -> String {
    let run = &record.run;
    let mut text =
        format!("{} {} {} ({}): {}", time(run.started_at), run.id, run.job, run.scope, status_name(record.status));
    if let Some(seconds) = seconds(record) {
        text += &format!(" in {seconds:.1} s, read {}, wrote {}", rows(&record.sources), rows(&record.sinks));
    }
    if let Some(error) = &record.error {
        text += &format!(": {}", error.message.replace('\n', " "));
    }
    text + "\n"
}

/// A job and a run of it.
type Key = (String, RunId);

/// The records that were read. Those of runs that have ended are not read again.
#[derive(Default)]
struct Known {
    runs: BTreeMap<Key, RunRecord>,
    /// Those that cannot be read, which was said once.
    broken: BTreeSet<Key>,
}

impl Known {
    /// Reads what may be new; returns the runs that are new or have another status.
    async fn read(&mut self, of: &Watch<'_>) -> Result<Vec<Key>> {
        let jobs = match of.job {
            Some(job) => [job.to_owned()].into(),
            None => Ledger::jobs(of.state).await?,
        };
        let mut wanted: Vec<Key> = Vec::new();
        for job in jobs {
            let ids = Ledger::run_ids(of.state, &job).await?;
            wanted.extend(ids.into_iter().map(|id| (job.clone(), id)));
        }
        wanted.retain(|key| match self.runs.get(key) {
            Some(record) => record.status == RunStatus::Running,
            None => !self.broken.contains(key),
        });
        let read = futures::stream::iter(wanted).map(|key| async move {
            // The record of a run does not depend on its scope.
            let found = Ledger::new(Arc::clone(of.state), &key.0, "").get_run(&key.1).await;
            (key, found)
        });
        let read: Vec<_> = read.buffered(CONCURRENCY).collect().await;
        let mut changed = Vec::new();
        for (key, found) in read {
            match found {
                Ok(Some(record)) => {
                    if self.runs.get(&key).is_none_or(|before| before.status != record.status) {
                        changed.push(key.clone());
                    }
                    self.runs.insert(key, record);
                }
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
                Err(error) => {
                    let _ = writeln!(std::io::stderr(), "hardtack: a run record is left out: {}", error.chain());
                    self.broken.insert(key);
                }
            }
        }
        Ok(changed)
    }

    /// The selected runs, oldest first.
    fn selected(&self, select: &Select) -> Vec<&RunRecord> {
        let mut runs: Vec<_> = self.runs.values().filter(|record| select.wants(record)).collect();
        runs.sort_by_key(|record| record.run.started_at);
        runs
    }
}
