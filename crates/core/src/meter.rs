//! Counts what is read and written, for progress bars and run records.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The running counts of one source or sink. Cheap to add to from many threads.
#[derive(Debug, Default)]
pub struct Meter {
    files: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    expected_bytes: AtomicU64,
    nanos: AtomicU64,
}

/// A snapshot of a [`Meter`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Files read or written.
    pub files: u64,
    /// Rows read or written.
    pub rows: u64,
    /// Bytes read or written, as they are stored (compressed where the file is).
    pub bytes: u64,
    /// Seconds spent in loading (listing, inferring) or staging.
    pub seconds: f64,
}

impl Meter {
    /// Counts files.
    pub fn add_files(&self, n: u64) {
        self.files.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts rows.
    pub fn add_rows(&self, n: u64) {
        self.rows.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts bytes.
    pub fn add_bytes(&self, n: u64) {
        self.bytes.fetch_add(n, Ordering::Relaxed);
    }

    /// Announces `n` more bytes, so that a progress bar knows its length.
    pub fn expect_bytes(&self, n: u64) {
        self.expected_bytes.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds time spent.
    pub fn add_time(&self, time: Duration) {
        self.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The bytes announced by [`Meter::expect_bytes`].
    pub fn expected_bytes(&self) -> u64 {
        self.expected_bytes.load(Ordering::Relaxed)
    }

    /// The current counts.
    pub fn counts(&self) -> Counts {
        Counts {
            files: self.files.load(Ordering::Relaxed),
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            seconds: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }
}

/// The meters of one run, by the names of its sources and sinks. Clones share the counts.
#[derive(Debug, Default, Clone)]
pub struct Meters {
    sources: Arc<Mutex<BTreeMap<String, Arc<Meter>>>>,
    sinks: Arc<Mutex<BTreeMap<String, Arc<Meter>>>>,
}

fn entry(map: &Mutex<BTreeMap<String, Arc<Meter>>>, name: &str) -> Arc<Meter> {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(map.entry(name.to_owned()).or_default())
}

fn counts(map: &Mutex<BTreeMap<String, Arc<Meter>>>) -> BTreeMap<String, Counts> {
    let map = map.lock().unwrap_or_else(PoisonError::into_inner);
    map.iter().map(|(name, meter)| (name.clone(), meter.counts())).collect()
}

impl Meters {
    /// The meter of the source `name`.
    pub fn source(&self, name: &str) -> Arc<Meter> {
        entry(&self.sources, name)
    }

    /// The meter of the sink `name`.
    pub fn sink(&self, name: &str) -> Arc<Meter> {
        entry(&self.sinks, name)
    }

    /// The current counts of all sources.
    pub fn sources(&self) -> BTreeMap<String, Counts> {
        counts(&self.sources)
    }

    /// The current counts of all sinks.
    pub fn sinks(&self) -> BTreeMap<String, Counts> {
        counts(&self.sinks)
    }

    /// Bytes read so far and bytes to read in total, over all sources.
    pub fn read_progress(&self) -> (u64, u64) {
        let map = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        map.values().fold((0, 0), |(done, all), m| (done + m.counts().bytes, all + m.expected_bytes()))
    }
}
