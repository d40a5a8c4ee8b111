//! The rows of the tables: every value answers a question about the row, by the dice.

use hardtack_core::Result;

use super::dice::{Dice, Weighted};
use super::text::{Calendar, decimal, number, uuid};
use super::vocabulary::{
    self, CITIES, CONDITIONS, ENCOUNTERS, FIRST_NAMES, LAST_NAMES, PANELS, PAYERS, RACES, STREETS,
};
use super::vocabulary::{Observation, Values};
use super::{Recipe, Table};

/// The last day on which anything happens: 2023-12-31, in days since 1970-01-01.
const LAST_DAY: i64 = 19_722;
/// The number of days with encounters.
pub(super) const DAYS: i64 = 10_433;
/// The number of days with encounters for a symptom.
const SYMPTOM_DAYS: i64 = 2_558;
/// Patients born before 2000-01-01 are adults.
const ADULTS_BEFORE: i64 = 10_957;

/// The questions that the dice answer about a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
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

/// Everything that rows are generated from.
pub(super) struct World {
    dice: Dice,
    calendar: Calendar,
    /// The numbers of originals and copies, by table.
    pub(super) sizes: [(u64, u64); 4],
    visits: Weighted,
    payers: Weighted,
    conditions: Weighted,
    races: Weighted,
    births: Weighted,
    panels: Weighted,
    panel: Vec<Vec<&'static Observation>>,
    /// The first observation of each encounter that has any, and the end.
    groups: Vec<u64>,
    /// The cumulative number of events up to the end of each day.
    until: Vec<u64>,
}

/// The encounter whose observations were last written: they are adjacent and share their first fields.
#[derive(Default)]
pub(super) struct LastGroup {
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
    pub(super) fn new(recipe: Recipe) -> Result<Self> {
        let mut sizes = [(0, 0); 4];
        for (size, table) in sizes.iter_mut().zip(Table::ALL) {
            let rows = recipe.rows(table.rows())?;
            let unique = (rows as f64 / 1.01) as u64;
            // Of a single row there is no copy.
            *size = (unique.max(1), rows - unique.max(1));
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
        // Grows day by day up to seven times as much. Only products, so that the result is the same on all machines.
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

    pub(super) fn below(&self, ask: Ask, index: u64, n: u64) -> u64 {
        self.dice.below(ask as u64, index, n)
    }

    fn one_of<T: Copy>(&self, ask: Ask, index: u64, items: &[T]) -> T {
        items[self.below(ask, index, items.len() as u64) as usize]
    }

    fn happens(&self, ask: Ask, index: u64, per_mille: u64) -> bool {
        self.dice.happens(ask as u64, index, per_mille)
    }

    pub(super) fn unique(&self, table: Table) -> u64 {
        self.sizes[table as usize].0
    }

    /// Appends the original row `index`.
    pub(super) fn row(&self, table: Table, index: u64, last: &mut LastGroup, out: &mut Vec<u8>) {
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

    /// Encounters are ordered by patient.
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
        // A few thousand distinct sums, because prices are not arbitrary.
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
}

/// Appends a field.
fn text(out: &mut Vec<u8>, value: &str) {
    out.extend_from_slice(value.as_bytes());
    out.push(b',');
}

/// `n` of `of` parts, in `parts`.
pub(super) fn portion(n: u64, of: u64, parts: u64) -> u64 {
    (u128::from(n) * u128::from(parts) / u128::from(of)) as u64
}

/// The rows of file `n` of `of`, if this many are divided evenly.
pub(super) fn share(n: usize, of: usize, rows: u64) -> std::ops::Range<u64> {
    let (n, of) = (n as u64, of as u64);
    portion(n, of, rows)..portion(n + 1, of, rows)
}

/// Appends the quantile `at` of `of`, between the least and the greatest sum.
fn quantile(out: &mut Vec<u8>, steps: &[u64], at: u64, of: u64) {
    let place = at * (steps.len() as u64 - 1);
    let (step, within) = ((place / of) as usize, place % of);
    let cents = steps[step] + (steps[step + 1] - steps[step]) * within / of;
    decimal(out, cents, 2);
    out.push(b',');
}
