//! `hardtack fsck`: reports what is damaged, orphaned or left behind, and repairs it.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use hardtack_core::{ErrorKind, Result};
use hardtack_runtime::{Finding, FindingKind, Remedy, RuntimeArgs, fsck, open_context, open_state};

use crate::draw::count;

#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// Repair everything that can be repaired without loss
    #[arg(long)]
    repair: bool,
}

/// Reports the findings, and exits with 1 if any of them remains.
pub(crate) async fn run(options: &RuntimeArgs, args: &FsckArgs) -> Result<(String, ExitCode)> {
    let ctx = open_context("hardtack", options)?;
    let state = open_state(ctx.stores(), &options.records.state)?;
    let findings = fsck(&ctx, &state, args.repair).await?;
    let is_left = findings.iter().any(|finding| finding.remedy != Remedy::Repaired);
    Ok((render(&findings), ExitCode::from(if is_left { ErrorKind::Unexpected.exit_code() } else { 0 })))
}

fn render(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "nothing is damaged, orphaned or left behind\n".to_owned();
    }
    let mut text = String::new();
    for Finding { kind, of, place, what, remedy } in findings {
        let of = of.as_ref().map(|of| format!("{of}: ")).unwrap_or_default();
        let _ = writeln!(text, "{kind}: {of}{place}\n    {what}");
        let _ = match remedy {
            Remedy::Repair => writeln!(text, "    hint: `hardtack fsck --repair`"),
            Remedy::Repaired => writeln!(text, "    repaired"),
            Remedy::ByHand(hint) => writeln!(text, "    hint: {hint}"),
        };
    }
    let of = |kind| findings.iter().filter(|finding| finding.kind == kind).count();
    let repaired = findings.iter().filter(|finding| finding.remedy == Remedy::Repaired).count();
    let _ = writeln!(
        text,
        "{}: {} damaged, {} orphaned, {} left behind; {repaired} repaired",
        count(findings.len(), "finding"),
        of(FindingKind::Damaged),
        of(FindingKind::Orphaned),
        of(FindingKind::LeftBehind),
    );
    text
}
