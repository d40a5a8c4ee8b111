//! Logging to standard error: for people on a terminal, as JSON otherwise.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::LogFormat;
use crate::progress::Bars;

impl LogFormat {
    /// Whether logs are for people.
    pub(crate) fn is_pretty(self) -> bool {
        match self {
            Self::Auto => io::stderr().is_terminal(),
            Self::Pretty => true,
            Self::Json => false,
        }
    }
}

/// Initialises logging, and returns a handle with which progress bars can be drawn without disturbing it. A filter that
/// does not parse is replaced by `warn`.
pub fn init(format: LogFormat, filter: &str) -> Bars {
    let bars = Bars::new(format.is_pretty() && io::stderr().is_terminal());
    let filter = || EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("warn"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter()).with_writer(AroundBars(bars.clone()));
    // A test may have started logging before.
    let _ = if format.is_pretty() {
        let ansi = io::stderr().is_terminal();
        tracing::subscriber::set_global_default(logs.with_ansi(ansi).with_target(false).finish())
    } else {
        tracing::subscriber::set_global_default(logs.json().flatten_event(true).with_current_span(false).finish())
    };
    bars
}

/// Writes to standard error with the progress bars suspended.
#[derive(Debug, Clone)]
struct AroundBars(Bars);

impl Write for AroundBars {
    /// Never fails: if logs cannot be written (a closed pipe, a full disk), the run continues without them. An error
    /// would itself be reported on standard error, by a macro that panics if that fails.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.aside(|| io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = io::stderr().flush();
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for AroundBars {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
