//! Generates tables in the manner of Synthea: patients, their encounters, and what was observed and found there.
//!
//! Every value is a function of the seed and of the row it stands for, so the tables fit together, and the same scale
//! and seed give the same bytes, whatever the number of threads. At scale 1 there are 132,000 patients, 1.26 million
//! encounters, 5.38 million observations and 483,000 conditions in 1.4 GB. One row in a hundred is an exact copy of one
//! that stands up to half a million rows before it. Observations fall on 10,433 days, encounters for a symptom on 2,558;
//! there is seven times more on the last days than on the first ones. Rows follow patients and encounters, not days.

mod dice;
mod text;
mod vocabulary;

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use hardtack_core::{Error, Result};
use serde::{Deserialize, Serialize};

use self::dice::{Dice, Weighted};
use self::text::{Calendar, decimal, number, uuid};
use self::vocabulary::{CITIES, CONDITIONS, ENCOUNTERS, FIRST_NAMES, LAST_NAMES, PANELS, PAYERS, RACES, STREETS};
use self::vocabulary::{Observation, Values};
use crate::files;

/// Changes whenever the bytes for the same scale and seed do.
const VERSION: u32 = 1;
/// Says what a folder was generated with.
const LABEL: &str = "generated.json";

/// The last day on which anything happens: 2023-12-31, in days since 1970-01-01.
const LAST_DAY: i64 = 19_722;
/// On how many days encounters fall.
const DAYS: i64 = 10_433;
/// On how many days encounters for a symptom fall.
const SYMPTOM_DAYS: i64 = 2_558;
/// Who was born before 2000-01-01 is an adult.
const ADULTS_BEFORE: i64 = 10_957;

/// Rows that one thread makes at a time.
const CHUNK: u64 = 1 << 15;
/// A copy stands less than this many chunks behind the row it is a copy of.
const REACH: u64 = 16;

/// What is generated: how much, and which of all the possible tables of that size.
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

/// Writes the tables into a folder, which is created, and labels it with the recipe. What was generated there before is
/// replaced.
///
/// # Errors
/// `Usage` for a scale without rows, or for a folder with tables that somebody else brought; `Unexpected` if a file
/// cannot be written.
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

/// What a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Not all of the tables.
    Nothing,
    /// What the recipe makes.
    Ours,
    /// Tables that somebody else brought.
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

/// The questions that the dice answer about a row.
#[derive(Debug, Clone, Copy)]
enum Ask {
    PatientHigh,
    PatientLow,
    EncounterHigh,
    EncounterLow,
    OrganizationHigh,
    OrganizationLow,
    ProviderHigh,
    ProviderLow,
    PayerHigh,
    PayerLow,
    Organization,
    Provider,
    Payer,
    Birth,
    BirthDay,
    Death,
    DeathDay,
    Gender,
    Marital,
    MaritalKnown,
    RaceKnown,
    EthnicityKnown,
    GenderKnown,
    Race,
    Hispanic,
    FirstName,
    LastName,
    MaidenName,
    City,
    Birthplace,
    Street,
    House,
    Document,
    Latitude,
    Longitude,
    Expenses,
    Coverage,
    Visit,
    Day,
    DayInRange,
    Second,
    Length,
    LengthDrawn,
    Claim,
    Share,
    Reason,
    Condition,
    ConditionEnd,
    ConditionLength,
    Panel,
    Value,
    Copied,
    Delay,
    Position,
}

/// All that rows are made of.
struct World {
    dice: Dice,
    calendar: Calendar,
    /// Rows that are no copies, and copies, by table.
    sizes: [(u64, u64); 4],
    visits: Weighted,
    payers: Weighted,
    conditions: Weighted,
    races: Weighted,
    births: Weighted,
    panels: Weighted,
    panel: Vec<Vec<&'static Observation>>,
    /// The first observation of each encounter that has any, and the end.
    groups: Vec<u64>,
    /// How much happened until the end of each day.
    until: Vec<u64>,
}

/// The encounter whose observations were last written: they stand together, and begin alike.
#[derive(Default)]
struct LastGroup {
    group: usize,
    rows: std::ops::Range<u64>,
    prefix: Vec<u8>,
}

/// Births by decade, from 1940.
const BIRTHS: [u32; 9] = [19, 59, 144, 228, 183, 72, 104, 158, 33];

/// Cents at equal steps of probability, from the least to the most.
const CLAIMS: &[u64] = &[0, 7_772, 14_000, 34_000, 64_000, 83_624, 101_000, 128_000, 180_000, 1_105_427, 13_100_597];
const SHARES: &[u64] = &[0, 0, 0, 0, 0, 0, 0, 400, 9_000, 68_829, 7_175_930];

impl World {
    fn new(recipe: Recipe) -> Result<Self> {
        let sizes = Table::ALL.map(|table| {
            let rows = (f64::from(table.rows()) * recipe.scale).round() as u64;
            let unique = (rows as f64 / 1.01) as u64;
            (unique, rows - unique)
        });
        if !(recipe.scale.is_finite() && sizes.iter().all(|&(unique, _)| unique > 0)) {
            return Err(Error::usage("a scale is a number like 1 or 0.01 that leaves every table some rows")
                .with("scale", recipe.scale));
        }
        let dice = Dice::new(recipe.seed);
        let panels = Weighted::new(PANELS.iter().map(|(weight, _)| *weight));
        let panel: Vec<Vec<_>> = PANELS.iter().map(|(_, parts)| parts.iter().copied().flatten().collect()).collect();
        let mut groups = vec![0];
        let (observations, mut end) = (sizes[Table::Observations as usize].0, 0);
        while end < observations {
            end += panel[panels.pick(dice.bits(Ask::Panel as u64, groups.len() as u64 - 1))].len() as u64;
            groups.push(end.min(observations));
        }
        // Day by day a little more, until it is seven times as much. Only products, so that it is alike everywhere.
        let mut rate = 1e9;
        let until = (0..DAYS).scan(0, |sum, _| {
            rate *= 1.000_191_7;
            *sum += rate as u64;
            Some(*sum)
        });
        Ok(Self {
            dice,
            calendar: Calendar::new(),
            sizes,
            visits: Weighted::new(ENCOUNTERS.iter().map(|visit| visit.weight)),
            payers: Weighted::new(PAYERS),
            conditions: Weighted::new(CONDITIONS.iter().map(|(weight, ..)| *weight)),
            races: Weighted::new(RACES.iter().map(|(weight, _)| *weight)),
            births: Weighted::new(BIRTHS),
            panels,
            panel,
            groups,
            until: until.collect(),
        })
    }

    fn bits(&self, ask: Ask, index: u64) -> u64 {
        self.dice.bits(ask as u64, index)
    }

    fn below(&self, ask: Ask, index: u64, n: u64) -> u64 {
        self.dice.below(ask as u64, index, n)
    }

    fn one_of<T: Copy>(&self, ask: Ask, index: u64, items: &[T]) -> T {
        items[self.below(ask, index, items.len() as u64) as usize]
    }

    fn happens(&self, ask: Ask, index: u64, per_mille: u64) -> bool {
        self.dice.happens(ask as u64, index, per_mille)
    }

    fn unique(&self, table: Table) -> u64 {
        self.sizes[table as usize].0
    }

    /// Appends row `index` of those that are no copies.
    fn row(&self, table: Table, index: u64, last: &mut LastGroup, out: &mut Vec<u8>) {
        match table {
            Table::Patients => self.patient(index, out),
            Table::Encounters => self.encounter(index, out),
            Table::Conditions => self.condition(index, out),
            Table::Observations => self.observation(index, last, out),
        }
        *out.last_mut().expect("a row is never empty") = b'\n';
    }

    fn uuid(&self, out: &mut Vec<u8>, high: Ask, low: Ask, index: u64) {
        uuid(out, self.bits(high, index), self.bits(low, index));
        out.push(b',');
    }

    fn patient_id(&self, out: &mut Vec<u8>, patient: u64) {
        self.uuid(out, Ask::PatientHigh, Ask::PatientLow, patient);
    }

    fn encounter_id(&self, out: &mut Vec<u8>, encounter: u64) {
        self.uuid(out, Ask::EncounterHigh, Ask::EncounterLow, encounter);
    }

    fn birth(&self, patient: u64) -> i64 {
        let decade = self.births.pick(self.bits(Ask::Birth, patient)) as i64;
        // The last decade is not over.
        let days = if decade == 8 { 1_060 } else { 3_652 };
        -10_957 + decade * 36_525 / 10 + self.below(Ask::BirthDay, patient, days) as i64
    }

    fn patient(&self, p: u64, out: &mut Vec<u8>) {
        let birth = self.birth(p);
        let adult = birth < ADULTS_BEFORE;
        let woman = self.happens(Ask::Gender, p, 480);
        let married = self.happens(Ask::Marital, p, 607);
        let document = self.below(Ask::Document, p, 100_000_000);
        let (city, county, zip) = self.one_of(Ask::City, p, CITIES);
        let name = |out: &mut Vec<u8>, ask, names: &[&str]| {
            let at = self.below(ask, p, names.len() as u64) as usize;
            text(out, names[at]);
            out.pop();
            number(out, (at as u64 * 37 + 58) % 900, 2);
            out.push(b',');
        };
        let known = |ask, what| if self.happens(ask, p, 995) { what } else { "" };

        self.patient_id(out, p);
        self.date(out, birth);
        if self.happens(Ask::Death, p, 75) {
            self.calendar.date(out, (birth + 7_000 + self.below(Ask::DeathDay, p, 14_000) as i64).min(LAST_DAY));
        }
        out.push(b',');
        out.extend_from_slice(b"999-");
        number(out, 10 + document % 90, 2);
        out.push(b'-');
        number(out, p % 1_000_000, 6);
        out.push(b',');
        if adult {
            out.push(b'S');
            number(out, document, 8);
            out.extend_from_slice(b",X");
            number(out, document ^ 0x2a, 8);
            out.extend_from_slice(b"X,");
        } else {
            out.extend_from_slice(b",,");
        }
        text(
            out,
            match (adult, woman, married) {
                (false, ..) => "",
                (_, false, _) => "Mr.",
                (_, true, true) => "Mrs.",
                (_, true, false) => "Ms.",
            },
        );
        name(out, Ask::FirstName, FIRST_NAMES);
        name(out, Ask::LastName, LAST_NAMES);
        text(out, "");
        match adult && woman && married {
            true => name(out, Ask::MaidenName, LAST_NAMES),
            false => text(out, ""),
        }
        text(
            out,
            match (adult && self.happens(Ask::MaritalKnown, p, 945), married) {
                (false, _) => "",
                (true, true) => "M",
                (true, false) => "S",
            },
        );
        text(out, known(Ask::RaceKnown, RACES[self.races.pick(self.bits(Ask::Race, p))].1));
        text(
            out,
            known(Ask::EthnicityKnown, if self.happens(Ask::Hispanic, p, 37) { "hispanic" } else { "nonhispanic" }),
        );
        text(out, known(Ask::GenderKnown, if woman { "F" } else { "M" }));
        out.extend_from_slice(self.one_of(Ask::Birthplace, p, CITIES).0.as_bytes());
        text(out, "  Rhode Harbour  US");
        self.address(out, p);
        text(out, city);
        text(out, "Rhode Harbour");
        text(out, county);
        text(out, zip);
        let degrees = |out: &mut Vec<u8>, ask, least: u64| {
            decimal(out, least * 100_000_000_000_000 + self.below(ask, p, 100_000_000_000_000), 14);
            out.push(b',');
        };
        degrees(out, Ask::Latitude, 41);
        out.push(b'-');
        degrees(out, Ask::Longitude, 71);
        decimal(out, self.below(Ask::Expenses, p, 90_000_000) + 1_000_000, 2);
        out.push(b',');
        decimal(out, self.below(Ask::Coverage, p, 2_400_000), 2);
        out.push(b',');
    }

    fn address(&self, out: &mut Vec<u8>, index: u64) {
        number(out, 1 + self.below(Ask::House, index, 1_100), 1);
        out.push(b' ');
        text(out, self.one_of(Ask::Street, index, STREETS));
    }

    fn date(&self, out: &mut Vec<u8>, day: i64) {
        self.calendar.date(out, day);
        out.push(b',');
    }

    fn instant(&self, out: &mut Vec<u8>, second: i64) {
        self.calendar.instant(out, second);
        out.push(b',');
    }

    /// Encounters stand by patient.
    fn patient_of(&self, encounter: u64) -> u64 {
        portion(encounter, self.unique(Table::Encounters), self.unique(Table::Patients))
    }

    fn visit(&self, encounter: u64) -> &'static vocabulary::Encounter {
        &ENCOUNTERS[self.visits.pick(self.bits(Ask::Visit, encounter))]
    }

    fn day(&self, encounter: u64) -> i64 {
        let birth = self.birth(self.patient_of(encounter));
        let (day, first) = if self.visit(encounter).description.contains("Encounter for symptom") {
            let day = LAST_DAY - self.below(Ask::Day, encounter, SYMPTOM_DAYS as u64) as i64;
            (day, LAST_DAY - SYMPTOM_DAYS + 1)
        } else {
            let all = self.until[self.until.len() - 1];
            let at = self.below(Ask::Day, encounter, all);
            (LAST_DAY - DAYS + 1 + self.until.partition_point(|until| *until <= at) as i64, LAST_DAY - DAYS + 1)
        };
        // Nobody sees a doctor before birth.
        let first = first.max(birth);
        if day >= first {
            day
        } else {
            first + self.below(Ask::DayInRange, encounter, (LAST_DAY - first + 1) as u64) as i64
        }
    }

    fn start(&self, encounter: u64) -> i64 {
        self.day(encounter) * 86_400 + self.below(Ask::Second, encounter, 86_400) as i64
    }

    fn seconds(&self, encounter: u64) -> i64 {
        let drawn = |n| self.below(Ask::LengthDrawn, encounter, n) as i64;
        match self.below(Ask::Length, encounter, 1000) {
            0..887 => 900,
            887..916 => 3_600,
            916..933 => 86_400,
            933..990 => 900 + drawn(1_900),
            _ => 86_400 + drawn(500_000),
        }
    }

    fn encounter(&self, e: u64, out: &mut Vec<u8>) {
        let (visit, start) = (self.visit(e), self.start(e));
        self.encounter_id(out, e);
        self.instant(out, start);
        self.instant(out, start + self.seconds(e));
        self.patient_id(out, self.patient_of(e));
        self.uuid(out, Ask::OrganizationHigh, Ask::OrganizationLow, self.below(Ask::Organization, e, 500));
        self.uuid(out, Ask::ProviderHigh, Ask::ProviderLow, self.below(Ask::Provider, e, 2000));
        self.uuid(out, Ask::PayerHigh, Ask::PayerLow, self.payers.pick(self.bits(Ask::Payer, e)) as u64);
        text(out, visit.class);
        text(out, visit.code);
        text(out, visit.description);
        text(out, if visit.class == "wellness" || visit.class == "outpatient" { "129.16" } else { "77.49" });
        // Some thousand different sums, as prices are not arbitrary.
        quantile(out, CLAIMS, self.below(Ask::Claim, e, 31_000), 31_000);
        quantile(out, SHARES, self.below(Ask::Share, e, 24_000), 24_000);
        let unknown = visit.description == "Encounter for symptom" && self.happens(Ask::Reason, e, 100);
        let (code, reason) = visit.reason.filter(|_| !unknown).unwrap_or_default();
        text(out, code);
        text(out, reason);
    }

    fn condition(&self, c: u64, out: &mut Vec<u8>) {
        let encounter = portion(c, self.unique(Table::Conditions), self.unique(Table::Encounters));
        let (_, code, description) = CONDITIONS[self.conditions.pick(self.bits(Ask::Condition, c))];
        let start = self.day(encounter);
        let days = match self.below(Ask::ConditionEnd, c, 1000) {
            0..321 => None,
            321..616 => Some(371),
            616..677 => Some(1_099),
            677..727 => Some(735),
            _ => Some(7 * (1 + self.below(Ask::ConditionLength, c, 150) as i64)),
        };
        self.date(out, start);
        match days {
            Some(days) => self.date(out, start + days),
            None => text(out, ""),
        }
        self.patient_id(out, self.patient_of(encounter));
        self.encounter_id(out, encounter);
        text(out, code);
        text(out, description);
    }

    fn observation(&self, index: u64, last: &mut LastGroup, out: &mut Vec<u8>) {
        if !last.rows.contains(&index) {
            last.group = self.groups.partition_point(|first| *first <= index) - 1;
            last.rows = self.groups[last.group]..self.groups[last.group + 1];
            let encounters = self.unique(Table::Encounters);
            let encounter = portion(last.group as u64, (self.groups.len() - 1) as u64, encounters);
            last.prefix.clear();
            self.instant(&mut last.prefix, self.start(encounter));
            self.patient_id(&mut last.prefix, self.patient_of(encounter));
            self.encounter_id(&mut last.prefix, encounter);
        }
        let panel = &self.panel[self.panels.pick(self.bits(Ask::Panel, last.group as u64))];
        let observation = panel[(index - last.rows.start) as usize];
        out.extend_from_slice(&last.prefix);
        text(out, observation.category);
        text(out, observation.code);
        text(out, observation.description);
        let between = |low: u32, high: u32| u64::from(low) + self.below(Ask::Value, index, u64::from(high - low + 1));
        let kind = match observation.values {
            Values::Tenths(low, high) => {
                decimal(out, between(low, high), 1);
                "numeric"
            }
            Values::Points(low, high) => {
                decimal(out, between(low, high) * 10, 1);
                "numeric"
            }
            Values::Answers(answers) => {
                out.extend_from_slice(self.one_of(Ask::Value, index, answers).as_bytes());
                "text"
            }
            Values::Hundreds(low, high) => {
                number(out, between(low, high) * 100, 1);
                "text"
            }
            Values::Address => {
                // As many as one street has.
                self.address(out, self.below(Ask::Value, index, 100));
                out.pop();
                "text"
            }
        };
        out.push(b',');
        text(out, observation.units);
        text(out, kind);
    }

    /// The copies that stand in a chunk: before which of its rows, and of which row.
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

/// Appends a field.
fn text(out: &mut Vec<u8>, value: &str) {
    out.extend_from_slice(value.as_bytes());
    out.push(b',');
}

/// `n` of `of` parts, in `parts`.
fn portion(n: u64, of: u64, parts: u64) -> u64 {
    (u128::from(n) * u128::from(parts) / u128::from(of)) as u64
}

/// Appends the sum that stands `at` such a place between the least and the most.
fn quantile(out: &mut Vec<u8>, steps: &[u64], at: u64, of: u64) {
    let place = at * (steps.len() as u64 - 1);
    let (step, within) = ((place / of) as usize, place % of);
    let cents = steps[step] + (steps[step + 1] - steps[step]) * within / of;
    decimal(out, cents, 2);
    out.push(b',');
}

/// Threads make chunks in turn; this one writes them in order.
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
                        // Nobody listens any more if writing failed.
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
