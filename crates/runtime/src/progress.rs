//! A progress bar for reading, writing and publishing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hardtack_core::JobContext;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The target of progress bars: standard error if it is a terminal, otherwise none.
#[derive(Debug, Clone)]
pub struct Bars {
    bar: ProgressBar,
}

impl Bars {
    /// Creates bars that are visible or hidden.
    pub fn new(visible: bool) -> Self {
        Self::on(if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() })
    }

    fn on(target: ProgressDrawTarget) -> Self {
        Self { bar: ProgressBar::with_draw_target(None, target) }
    }

    /// Runs `print` with the bar suspended.
    pub(crate) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Starts showing how much a run has read and written.
    pub(crate) fn start(&self, ctx: &JobContext) -> Bar {
        let bar = Bar { bar: self.bar.clone(), done: Arc::new(AtomicBool::new(false)) };
        if self.bar.is_hidden() {
            return bar;
        }
        self.bar.set_style(style("{spinner} {bar:30} {msg}"));
        let (shown, ctx) = (bar.clone(), ctx.clone());
        tokio::spawn(async move {
            while !shown.done.load(Ordering::Relaxed) {
                shown.draw(&ctx);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        bar
    }
}

/// The bar of a run.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    bar: ProgressBar,
    done: Arc<AtomicBool>,
}

impl Bar {
    fn draw(&self, ctx: &JobContext) {
        let (read, expected) = ctx.meters().read_progress();
        let sinks = ctx.meters().sinks();
        let (rows, bytes) = sinks.values().fold((0, 0), |(rows, bytes), c| (rows + c.rows, bytes + c.bytes));
        if self.done.load(Ordering::Relaxed) {
            return;
        }
        self.bar.set_length(expected.max(read));
        self.bar.set_position(read);
        self.bar.set_message(format!(
            "read {} of {}, staged {} rows in {}",
            HumanBytes(read),
            HumanBytes(expected),
            HumanCount(rows),
            HumanBytes(bytes)
        ));
        self.bar.tick();
    }

    /// Switches to counting publish actions.
    pub(crate) fn publishing(&self, actions: usize) {
        self.done.store(true, Ordering::Relaxed);
        self.bar.reset();
        self.bar.set_style(style("{spinner} {bar:30} publishing {pos} of {len}"));
        self.bar.set_length(actions as u64);
    }

    pub(crate) fn published(&self) {
        self.bar.inc(1);
    }

    pub(crate) fn finish(&self) {
        self.done.store(true, Ordering::Relaxed);
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn a_run_is_shown_from_reading_to_publishing() {
        let terminal = InMemoryTerm::new(5, 100);
        let bars = Bars::on(ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255));
        // The spinner's position depends on the time.
        let shown = || terminal.contents().chars().skip(2).collect::<String>();
        let ctx = JobContext::builder("job").build().unwrap();
        let (source, sink) = (ctx.meters().source("in"), ctx.meters().sink("out"));
        source.expect_bytes(3 << 20);

        let bar = bars.start(&ctx);
        yield_now().await;
        insta::assert_snapshot!(shown(), @"░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░ read 0 B of 3.00 MiB, staged 0 rows in 0 B");

        source.add_bytes(1 << 20);
        sink.add_rows(12_345);
        sink.add_bytes(2048);
        bar.draw(&ctx);
        insta::assert_snapshot!(shown(), @"██████████░░░░░░░░░░░░░░░░░░░░ read 1.00 MiB of 3.00 MiB, staged 12,345 rows in 2.00 KiB");

        bars.aside(|| assert_eq!(terminal.contents(), "", "in the way of a log line"));
        insta::assert_snapshot!(shown(), @"██████████░░░░░░░░░░░░░░░░░░░░ read 1.00 MiB of 3.00 MiB, staged 12,345 rows in 2.00 KiB");

        bar.publishing(2);
        bar.published();
        insta::assert_snapshot!(shown(), @"███████████████░░░░░░░░░░░░░░░ publishing 1 of 2");

        // The counters are no longer shown.
        bar.draw(&ctx);
        bar.published();
        insta::assert_snapshot!(shown(), @"██████████████████████████████ publishing 2 of 2");

        bar.finish();
        assert_eq!(terminal.contents(), "");
    }

    #[tokio::test]
    async fn nothing_is_drawn_where_nobody_looks() {
        let ctx = JobContext::builder("job").build().unwrap();
        let bars = Bars::new(false);
        let bar = bars.start(&ctx);
        bar.publishing(1);
        bar.finish();
        assert!(bars.bar.is_hidden());
    }
}
