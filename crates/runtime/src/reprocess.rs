//! What a run reads of its bookmarked sources.

use hardtack_core::bookmarks::{BookmarkOption, Bookmarks, Positions, Reprocess};
use hardtack_core::{Error, Result, RunId};
use hardtack_state::Ledger;

use crate::args::BookmarkArgs;

impl BookmarkArgs {
    /// The bookmarks of a run that begins with these positions.
    pub(crate) fn bookmarks(&self, last: Positions, again: Option<Reprocess>) -> Bookmarks {
        let (option, reset_moved) = (self.job_bookmark_option.into(), self.job_bookmark_reset_moved);
        Bookmarks { option, last, again, reset_moved }
    }

    /// What to read again, if anything. As in Glue, the run of `--job-bookmark-from` is excluded and that of
    /// `--job-bookmark-to` is included: see the guide.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for options that contradict each other, and for a run that this job and
    /// scope never had; errors of the state.
    pub(crate) async fn reprocess(&self, ledger: &Ledger) -> Result<Option<Reprocess>> {
        let (from, to) = (&self.job_bookmark_from, &self.job_bookmark_to);
        if from.is_none() && to.is_none() {
            return Ok(None);
        }
        if BookmarkOption::from(self.job_bookmark_option) == BookmarkOption::Disable {
            let why = "`--job-bookmark-option job-bookmark-disable` reads everything, so `--job-bookmark-from` and \
                       `--job-bookmark-to` have no effect";
            return Err(Error::usage(why).hint("leave out one or the other"));
        }
        let after = match from {
            Some(run) => until(ledger, run, "--job-bookmark-from").await?,
            None => Until::default(),
        };
        let until = match to {
            Some(run) => Some(until(ledger, run, "--job-bookmark-to").await?),
            None => None,
        };
        if let (Some(from), Some(to), Some(until)) = (from, to, &until)
            && until.commit < after.commit
        {
            let error = Error::usage("`--job-bookmark-to` is an earlier run than `--job-bookmark-from`");
            return Err(error.with("from", from).with("to", to).hint("exchange them"));
        }
        Ok(Some(Reprocess { after: after.positions, until: until.map(|until| until.positions) }))
    }
}

/// Where the sources were after a commit.
#[derive(Default)]
struct Until {
    positions: Positions,
    commit: u64,
}

async fn until(ledger: &Ledger, run: &RunId, option: &str) -> Result<Until> {
    match ledger.bookmarks_until(run).await? {
        Some((positions, commit)) => Ok(Until { positions, commit }),
        None => Err(Error::usage(format!("`{option}` names no run of this job and scope"))
            .with("run", run)
            .with("job", ledger.job())
            .with("scope", ledger.scope())
            .hint(format!("`hardtack runs {}` lists the runs", ledger.job()))),
    }
}
