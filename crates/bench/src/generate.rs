//! Generates what the suites read: tables like Synthea's, change events of customers, access records,
//! changes of insurance policies.
//!
//! Every value is a function of the seed and of its row, so what belongs together fits together, and the same scale and
//! seed give the same bytes, whatever the number of threads.
//!
//! The tables are patients, their encounters, observations and conditions. At scale 1 there are 132,000 patients, 1.26
//! million encounters, 5.38 million observations and 483,000 conditions in 1.4 GB. One row in a hundred is an exact
//! copy of one that is up to half a million rows away. Observations fall on 10,433 days, encounters for a symptom on 2,558;
//! the last days have seven times as many as the first ones. Rows are ordered by patient and encounter, not by day.

mod access;
mod calls;
mod dice;
mod events;
mod policies;
mod rows;
mod text;
mod vocabulary;

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use flate2::Compression;
use flate2::write::GzEncoder;
use hardtack_core::{Error, Result};
use serde::{Deserialize, Serialize};

use self::access::Access;
use self::calls::Calls;
use self::events::Events;
use self::policies::Policies;
use self::rows::{Ask, LastGroup, World, portion, share};
use crate::files;

/// The file that records the recipe of a folder.
const LABEL: &str = "generated.json";

/// The number of rows that one thread generates at a time.
const CHUNK: u64 = 1 << 15;
/// Room for their lines.
const CHUNK_BYTES: usize = 20 << 20;
/// A copy is less than this many chunks behind its original.
const REACH: u64 = 16;

/// What to generate: the size and the seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// 1 for what [`Data`] describes.
    pub scale: f64,
    /// Any number.
    pub seed: u64,
}

impl Recipe {
    /// A number of rows at this scale.
    ///
    /// # Errors
    /// `Usage` if none is left, or if the scale is out of range.
    pub(crate) fn rows(self, at_scale_1: u32) -> Result<u64> {
        let rows = (f64::from(at_scale_1) * self.scale).round();
        if self.scale <= 1000.0 && rows >= 1.0 {
            return Ok(rows as u64);
        }
        Err(Error::usage("a scale is a number up to 1000 that leaves every table some rows, for example 0.01")
            .with("scale", self.scale))
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scale {}, seed {}", self.scale, self.seed)
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Label {
    generator: u32,
    #[serde(flatten)]
    recipe: Recipe,
}

/// One of the generated tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Who they are.
    Patients,
    /// When they went to see a doctor.
    Encounters,
    /// What was found.
    Conditions,
    /// What was measured and asked.
    Observations,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Patients, Self::Encounters, Self::Conditions, Self::Observations];

    /// Its file.
    pub fn file(self) -> &'static str {
        match self {
            Self::Patients => "patients.csv",
            Self::Encounters => "encounters.csv",
            Self::Conditions => "conditions.csv",
            Self::Observations => "observations.csv",
        }
    }

    fn header(self) -> &'static str {
        match self {
            Self::Patients => {
                "id,birthdate,deathdate,ssn,drivers,passport,prefix,first,last,suffix,maiden,marital,race,ethnicity,\
                 gender,birthplace,address,city,state,county,zip,lat,lon,healthcare_expenses,healthcare_coverage\n"
            }
            Self::Encounters => {
                "id,start,stop,patient,organization,provider,payer,encounterclass,code,description,\
                 base_encounter_cost,total_claim_cost,payer_coverage,reasoncode,reasondescription\n"
            }
            Self::Conditions => "start,stop,patient,encounter,code,description\n",
            Self::Observations => "date,patient,encounter,category,code,description,value,units,type\n",
        }
    }

    /// Rows at scale 1, copies included.
    fn rows(self) -> u32 {
        match self {
            Self::Patients => 132_000,
            Self::Encounters => 1_260_000,
            Self::Conditions => 483_000,
            Self::Observations => 5_380_000,
        }
    }
}

/// What a folder of data holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Data {
    /// Tables of patients, encounters, conditions, observations as CSV; 1.4 GB at scale 1
    Tables,
    /// Change events of customers as JSON lines: `inserts`, then `changes`, of which `few` are a part; 406 MB at scale 1
    Events,
    /// Access records as JSON lines, plain and as gzip; 566 and 77 MB at scale 1
    Access,
    /// Changes of insurance policies as JSON lines: a `year`, then `late` ones; 180 MB at scale 1
    Policies,
    /// Records of calls of an API as JSON lines, plain and as gzip, for the job `access_records`; 559 and 71 MB at scale 1
    Calls,
}

impl Data {
    /// The name of its folder.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tables => "data",
            Self::Events => "data-merge",
            Self::Access => "data-json",
            Self::Policies => "data-snapshots",
            Self::Calls => "data-access",
        }
    }

    /// Changes whenever the bytes for the same scale and seed do.
    fn version(self) -> u32 {
        match self {
            Self::Tables | Self::Events | Self::Access | Self::Calls | Self::Policies => 1,
        }
    }

    /// All files, relative to the folder.
    fn files(self) -> Vec<String> {
        match self {
            Self::Tables => Table::ALL.map(|table| table.file().to_owned()).into(),
            Self::Events => events::FILES.iter().flat_map(|(folder, n)| numbered(folder, *n, "jsonl")).collect(),
            Self::Policies => policies::FILES.iter().flat_map(|(folder, n)| numbered(folder, *n, "jsonl")).collect(),
            Self::Access => plain_and_gzip(access::FOLDER, access::GZIP_FOLDER, access::FILES),
            Self::Calls => plain_and_gzip(calls::FOLDER, calls::GZIP_FOLDER, calls::FILES),
        }
    }

    fn maker(self, recipe: Recipe) -> Result<Box<dyn Maker>> {
        Ok(match self {
            Self::Tables => Box::new(World::new(recipe)?),
            Self::Events => Box::new(Events::new(recipe)?),
            Self::Access => Box::new(Access::new(recipe)?),
            Self::Policies => Box::new(Policies::new(recipe)?),
            Self::Calls => Box::new(Calls::new(recipe)?),
        })
    }
}

fn plain_and_gzip(plain: &str, gzip: &str, files: usize) -> Vec<String> {
    numbered(plain, files, "jsonl").into_iter().chain(numbered(gzip, files, "jsonl.gz")).collect()
}

fn numbered(folder: &str, files: usize, suffix: &str) -> Vec<String> {
    (0..files).map(|n| format!("{folder}/part-{n:02}.{suffix}")).collect()
}

/// Makes the first files of a [`Data`], in the order of their names, chunk by chunk.
trait Maker: Sync {
    /// The number of files that are made; others are compressed from them.
    fn files(&self) -> usize;

    /// The line before the first row, if there is one.
    fn header(&self, _file: usize) -> &'static str {
        ""
    }

    /// The rows of a file, which are made in chunks of [`CHUNK`] from the first on.
    fn rows_of(&self, file: usize) -> Range<u64>;

    /// Appends the lines of a chunk of a file. They do not depend on what was made before.
    fn append(&self, file: usize, rows: Range<u64>, out: &mut Vec<u8>);
}

/// Writes data into a folder, which is created, and records the recipe. Replaces data that were generated there before.
///
/// # Errors
/// `Usage` for a scale without rows, or for a folder with foreign data; `Unexpected` if a file cannot be written.
pub fn generate(data: Data, recipe: Recipe, folder: &Path, threads: usize) -> Result<()> {
    let maker = data.maker(recipe)?;
    let label = folder.join(LABEL);
    let whole: Vec<PathBuf> = data.files().iter().map(|file| folder.join(file)).collect();
    if let Some(foreign) = whole.iter().find(|file| file.exists() && !label.exists()) {
        return Err(Error::usage("there is a table that was not generated; name another folder, or remove this one")
            .with("table", foreign.display()));
    }
    for file in &whole {
        files::create_folder(file.parent().unwrap_or(folder))?;
    }
    let parts: Vec<PathBuf> = data.files().iter().map(|file| folder.join(format!("{file}.part"))).collect();
    let (made, compressed) = parts.split_at(maker.files());
    for (file, part) in made.iter().enumerate() {
        let to = File::create(part).map_err(files::failed("cannot create a file", part))?;
        write(&*maker, file, to, threads).map_err(files::failed("cannot write", part))?;
    }
    compress(made, compressed, threads)?;
    for (part, file) in parts.iter().zip(&whole) {
        files::rename(part, file)?;
    }
    let text = serde_json::to_string(&Label { generator: data.version(), recipe });
    let text = text.map_err(|e| Error::unexpected("the label of the data cannot be written").because(e))?;
    files::write(&label, text + "\n")
}

/// The contents of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Not all of the files.
    Nothing,
    /// The data of the recipe.
    Ours,
    /// Foreign data.
    Foreign,
}

/// Looks for the data of a recipe in a folder.
///
/// # Errors
/// `Usage` if there are those of another recipe or of another version of the generator.
pub fn find(data: Data, recipe: Recipe, folder: &Path) -> Result<Found> {
    if !data.files().iter().all(|file| folder.join(file).is_file()) {
        return Ok(Found::Nothing);
    }
    let label = folder.join(LABEL);
    if !label.is_file() {
        return Ok(Found::Foreign);
    }
    let text = files::read(&label)?;
    let version = data.version();
    if serde_json::from_str(&text).ok() == Some(Label { generator: version, recipe }) {
        return Ok(Found::Ours);
    }
    Err(Error::usage("the folder holds data of another recipe; name another folder with `--data`, or remove this one")
        .with("folder", folder.display())
        .with("found", text.trim())
        .with("wanted", format!("{recipe}, generator {version}")))
}

/// Reads the data once, so that the first engine does not pay for the disk reads of all.
///
/// # Errors
/// `Unexpected` if a file cannot be read.
pub(crate) fn warm(data: Data, folder: &Path) -> Result<()> {
    for file in data.files() {
        let path = folder.join(file);
        let read = File::open(&path).and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink()));
        read.map_err(files::failed("cannot read", &path))?;
    }
    Ok(())
}

/// Compresses each file into the one of the same position, as one gzip member each.
fn compress(from: &[PathBuf], to: &[PathBuf], threads: usize) -> Result<()> {
    let compress = |(from, to): (&PathBuf, &PathBuf)| {
        let file = File::create(to).map_err(files::failed("cannot create a file", to))?;
        let mut encoder = GzEncoder::new(BufWriter::new(file), Compression::default());
        let copied = File::open(from)
            .and_then(|mut plain| std::io::copy(&mut plain, &mut encoder))
            .and_then(|_| encoder.finish()?.flush());
        copied.map_err(files::failed("cannot compress", from))
    };
    let next = AtomicUsize::new(0);
    let (compress, next) = (&compress, &next);
    std::thread::scope(|scope| {
        let work = |_| {
            scope.spawn(move || {
                while let Some(pair) = from.iter().zip(to).nth(next.fetch_add(1, Ordering::Relaxed)) {
                    compress(pair)?;
                }
                Ok(())
            })
        };
        let workers: Vec<_> = (0..threads.max(1)).map(work).collect();
        let done = workers.into_iter().map(|worker| {
            worker.join().unwrap_or_else(|_| Err(Error::unexpected("a thread that compresses has panicked")))
        });
        done.collect()
    })
}

impl World {
    /// The copies in a chunk: the row before which each is inserted, and its original.
    fn copies(&self, table: Table, chunk: u64) -> Vec<(u64, u64)> {
        let (unique, copies) = self.sizes[table as usize];
        let bounds = |chunk: u64| (chunk * CHUNK, ((chunk + 1) * CHUNK).min(unique));
        let rows_of = |(from, to): (u64, u64)| to - from;
        let last_chunk = (unique - 1) / CHUNK;
        let mut found = Vec::new();
        for origin in chunk.saturating_sub(REACH)..=chunk {
            let (from, to) = bounds(origin);
            for copy in portion(from, unique, copies)..portion(to, unique, copies) {
                let key = (table as u64) << 56 | copy;
                let delay = self.below(Ask::Delay, key, REACH);
                if (origin + delay).min(last_chunk) == chunk {
                    let before = self.below(Ask::Position, key, rows_of(bounds(chunk)) + 1);
                    found.push((before, from + self.below(Ask::Copied, key, to - from)));
                }
            }
        }
        found.sort_unstable();
        found
    }
}

impl Maker for World {
    fn files(&self) -> usize {
        Table::ALL.len()
    }

    fn header(&self, file: usize) -> &'static str {
        Table::ALL[file].header()
    }

    fn rows_of(&self, file: usize) -> Range<u64> {
        0..self.unique(Table::ALL[file])
    }

    fn append(&self, file: usize, rows: Range<u64>, out: &mut Vec<u8>) {
        let table = Table::ALL[file];
        let copies = self.copies(table, rows.start / CHUNK);
        let mut copies = copies.iter().peekable();
        let mut last = LastGroup::default();
        for index in rows.start..=rows.end {
            while let Some((_, copied)) = copies.next_if(|(before, _)| *before == index - rows.start) {
                self.row(table, *copied, &mut LastGroup::default(), out);
            }
            if index < rows.end {
                self.row(table, index, &mut last, out);
            }
        }
    }
}

/// Threads generate chunks in turn; this one writes them in order.
fn write(maker: &dyn Maker, file: usize, to: impl Write, threads: usize) -> std::io::Result<()> {
    let rows = &maker.rows_of(file);
    let mut out = BufWriter::new(to);
    out.write_all(maker.header(file).as_bytes())?;
    std::thread::scope(|scope| {
        let receivers: Vec<Receiver<Vec<u8>>> = (0..threads.max(1))
            .map(|first| {
                let (sender, receiver): (SyncSender<_>, _) = sync_channel(1);
                scope.spawn(move || {
                    let begins = rows.clone().step_by(CHUNK as usize);
                    for begin in begins.skip(first).step_by(threads.max(1)) {
                        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                        maker.append(file, begin..(begin + CHUNK).min(rows.end), &mut chunk);
                        // The receiver is gone if writing failed.
                        if sender.send(chunk).is_err() {
                            return;
                        }
                    }
                });
                receiver
            })
            .collect();
        for receiver in receivers.iter().cycle() {
            match receiver.recv() {
                Ok(rows) => out.write_all(&rows)?,
                Err(_) => break,
            }
        }
        out.flush()
    })
}

#[cfg(test)]
mod tests;
