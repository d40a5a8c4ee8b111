//! Whether the work of a job is done, by the commits of its scope.

use hardtack_core::Result;
use hardtack_runtime::{RecoverOptions, RuntimeArgs, open_context, recover};
use hardtack_state::Ledger;

/// How the work of a job stands by the commits of its scope.
pub(crate) enum Standing {
    /// A run has done it.
    Done,
    /// None has. The next commit has this number.
    Open(u64),
}

/// How the work of a job and scope stands: any run that has committed after the commit with the number `after` has done
/// it. What that has not published yet is published: running the job again would do the work twice.
///
/// # Errors
/// Errors of the store, and of the publication.
pub(crate) async fn standing(options: &RuntimeArgs, ledger: &Ledger, after: u64) -> Result<Standing> {
    let next = ledger.newest().await? + 1;
    let commits = ledger.bookmark_history_after(after).await?;
    let done = commits.iter().find(|at| at.change.is_none());
    let Some(commit) = done else { return Ok(Standing::Open(next)) };
    if !commit.is_published {
        let options = RuntimeArgs { scope: ledger.scope().to_owned(), ..options.clone() };
        recover(&open_context(ledger.job(), &options)?, ledger, RecoverOptions::default()).await?;
    }
    Ok(Standing::Done)
}
