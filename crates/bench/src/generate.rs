//! Generates tables like Synthea's: patients, their encounters, observations and conditions.
//!
//! Every value is a function of the seed and of its row, so the tables fit together, and the same scale and seed give
//! the same bytes, whatever the number of threads. At scale 1 there are 132,000 patients, 1.26 million encounters, 5.38
//! million observations and 483,000 conditions in 1.4 GB. One row in a hundred is an exact copy of one that is up to
//! half a million rows away. Observations fall on 10,433 days, encounters for a symptom on 2,558; the last days have
//! seven times as many as the first ones. Rows are ordered by patient and encounter, not by day.

mod dice;
mod rows;
mod text;
mod vocabulary;

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use hardtack_core::{Error, Result};
use serde::{Deserialize, Serialize};

use self::rows::{Ask, LastGroup, World, portion};
use crate::files;

/// Changes whenever the bytes for the same scale and seed do.
const VERSION: u32 = 1;
/// The file that records the recipe of a folder.
const LABEL: &str = "generated.json";

/// The number of rows that one thread generates at a time.
const CHUNK: u64 = 1 << 15;
/// A copy is less than this many chunks behind its original.
const REACH: u64 = 16;

/// What to generate: the size and the seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// 1 for 1.4 GB.
    pub scale: f64,
    /// Any number.
    pub seed: u64,
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

/// Writes the tables into a folder, which is created, and records the recipe. Replaces tables that were generated there
/// before.
///
/// # Errors
/// `Usage` for a scale without rows, or for a folder with foreign tables; `Unexpected` if a file cannot be written.
pub fn generate(recipe: Recipe, folder: &Path, threads: usize) -> Result<()> {
    let world = World::new(recipe)?;
    let label = folder.join(LABEL);
    let whole = |table: Table| folder.join(table.file());
    if let Some(foreign) = Table::ALL.map(whole).iter().find(|table| table.exists() && !label.exists()) {
        return Err(Error::usage("there is a table that was not generated; name another folder, or remove this one")
            .with("table", foreign.display()));
    }
    files::create_folder(folder)?;
    let part = |table: Table| folder.join(format!("{}.part", table.file()));
    for table in Table::ALL {
        let part = part(table);
        let file = File::create(&part).map_err(files::failed("cannot create a file", &part))?;
        write(&world, table, file, threads).map_err(files::failed("cannot write", &part))?;
    }
    for table in Table::ALL {
        files::rename(&part(table), &whole(table))?;
    }
    let text = serde_json::to_string(&Label { generator: VERSION, recipe });
    let text = text.map_err(|e| Error::unexpected("the label of the data cannot be written").because(e))?;
    files::write(&label, text + "\n")
}

/// The contents of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Not all of the tables.
    Nothing,
    /// The tables of the recipe.
    Ours,
    /// Foreign tables.
    Foreign,
}

/// Looks for the tables of a recipe in a folder.
///
/// # Errors
/// `Usage` if there are those of another recipe or of another version of the generator.
pub fn find(recipe: Recipe, folder: &Path) -> Result<Found> {
    if !Table::ALL.iter().all(|table| folder.join(table.file()).is_file()) {
        return Ok(Found::Nothing);
    }
    let label = folder.join(LABEL);
    if !label.is_file() {
        return Ok(Found::Foreign);
    }
    let text = files::read(&label)?;
    if serde_json::from_str(&text).ok() == Some(Label { generator: VERSION, recipe }) {
        return Ok(Found::Ours);
    }
    Err(Error::usage("the folder holds data of another recipe; name another folder with `--data`, or remove this one")
        .with("folder", folder.display())
        .with("found", text.trim())
        .with("wanted", format!("{recipe}, generator {VERSION}")))
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

    fn chunk(&self, table: Table, chunk: u64) -> Vec<u8> {
        let from = chunk * CHUNK;
        let to = (from + CHUNK).min(self.unique(table));
        let copies = self.copies(table, chunk);
        let mut copies = copies.iter().peekable();
        let (mut out, mut last) = (Vec::with_capacity(12 << 20), LastGroup::default());
        for index in from..=to {
            while let Some((_, copied)) = copies.next_if(|(before, _)| *before == index - from) {
                self.row(table, *copied, &mut LastGroup::default(), &mut out);
            }
            if index < to {
                self.row(table, index, &mut last, &mut out);
            }
        }
        out
    }
}

/// Threads generate chunks in turn; this one writes them in order.
fn write(world: &World, table: Table, to: impl Write, threads: usize) -> std::io::Result<()> {
    let chunks = world.unique(table).div_ceil(CHUNK);
    let mut file = BufWriter::new(to);
    file.write_all(table.header().as_bytes())?;
    std::thread::scope(|scope| {
        let makers: Vec<Receiver<Vec<u8>>> = (0..threads.max(1) as u64)
            .map(|first| {
                let (sender, receiver): (SyncSender<_>, _) = sync_channel(1);
                scope.spawn(move || {
                    for chunk in (first..chunks).step_by(threads.max(1)) {
                        // The receiver is gone if writing failed.
                        if sender.send(world.chunk(table, chunk)).is_err() {
                            return;
                        }
                    }
                });
                receiver
            })
            .collect();
        for maker in makers.iter().cycle() {
            match maker.recv() {
                Ok(rows) => file.write_all(&rows)?,
                Err(_) => break,
            }
        }
        file.flush()
    })
}

#[cfg(test)]
mod tests;
