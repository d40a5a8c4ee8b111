//! A progress bar while files are read, written and published.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hardtack_core::JobContext;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Where bars are drawn: on standard error if it is a terminal, nowhere otherwise.
#[derive(Debug, Clone)]
pub struct Bars {
    bar: ProgressBar,
}

impl Bars {
    /// Bars that are visible or not.
    pub fn new(visible: bool) -> Self {
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bar: ProgressBar::with_draw_target(None, target) }
    }

    /// Runs `print` while the bar stands aside.
    pub(crate) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Begins to show how much a run has read and written.
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

    /// From now on it counts what is published.
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
