//! Changes of insurance policies in 2025: the year's, then a batch that arrives at its end and reaches back to October.
//!
//! Policies begin on any day of the year and change a year long: seven of ten changes are of the premium, two of the
//! holder, one deletes the policy (and a later one may bring it back). No two events were recorded in the same second, so
//! the last one of a day is the same for all engines.

use std::ops::Range;

use hardtack_core::Result;

use super::dice::Dice;
use super::text::{Calendar, decimal, number};
use super::vocabulary::{FIRST_NAMES, LAST_NAMES};
use super::{Maker, Recipe, share};

/// Policies at scale 1.
const POLICIES: u32 = 400_000;
/// Changes of them in the first batch at scale 1.
const CHANGES: u32 = 600_000;
/// Events of the second batch at scale 1.
const LATE: u32 = 100_000;
/// The folders of both batches, with their number of files.
pub(super) const FILES: [(&str, usize); 2] = [("year/policy_events", 8), ("late/policy_events", 2)];

/// 2025-01-01, in days since 1970-01-01.
const YEAR: i64 = 20_089;
const DAYS: u64 = 365;
/// The days before the end of the year in which late events are effective: since October.
const LATE_DAYS: u64 = 92;

#[derive(Debug, Clone, Copy)]
enum Ask {
    Day,
    Kind,
    Policy,
    Premium,
    First,
    Last,
}

pub(super) struct Policies {
    dice: Dice,
    calendar: Calendar,
    policies: u64,
    year: u64,
    late: u64,
}

impl Policies {
    pub(super) fn new(recipe: Recipe) -> Result<Self> {
        let policies = recipe.rows(POLICIES)?;
        let (changes, late) = (recipe.rows(CHANGES)?, recipe.rows(LATE)?);
        Ok(Self { dice: Dice::new(recipe.seed), calendar: Calendar::new(), policies, year: policies + changes, late })
    }

    fn below(&self, ask: Ask, index: u64, n: u64) -> u64 {
        self.dice.below(ask as u64, index, n)
    }

    /// The folder of a file, its position in it, and the number of rows of the folder.
    fn place(&self, file: usize) -> (usize, usize, u64) {
        match file.checked_sub(FILES[0].1) {
            None => (0, file, self.year),
            Some(file) => (1, file, self.late),
        }
    }

    /// Appends an event; they are numbered through both batches.
    fn event(&self, event: u64, out: &mut Vec<u8>) {
        let is_new = event < self.policies;
        let policy = if is_new { event } else { self.below(Ask::Policy, event, self.policies) };
        let kind = if is_new { 0 } else { self.below(Ask::Kind, event, 10) };
        let day = match event.checked_sub(self.year) {
            Some(_) => DAYS - 1 - self.below(Ask::Day, event, LATE_DAYS),
            None => self.below(Ask::Day, event, DAYS),
        };
        let name = |ask: Ask, names: &[&'static str]| {
            let of = if matches!(kind, 7 | 8) { event } else { policy };
            names[self.below(ask, of, names.len() as u64) as usize].as_bytes()
        };
        out.extend_from_slice(br#"{"policy_id":"P-"#);
        number(out, policy, 7);
        out.extend_from_slice(br#"","holder":""#);
        out.extend_from_slice(name(Ask::First, FIRST_NAMES));
        out.push(b' ');
        out.extend_from_slice(name(Ask::Last, LAST_NAMES));
        out.extend_from_slice(br#"","premium":"#);
        decimal(out, 2_000 + self.below(Ask::Premium, event, 98_000), 2);
        out.extend_from_slice(br#","status":""#);
        out.extend_from_slice(if kind == 9 { b"deleted" } else { b"active" });
        out.extend_from_slice(br#"","effective_date":""#);
        self.calendar.date(out, YEAR + day as i64);
        out.extend_from_slice(br#"","recorded_at":""#);
        self.calendar.instant(out, YEAR * 86_400 + event as i64);
        out.extend_from_slice(b"\"}\n");
    }
}

impl Maker for Policies {
    fn files(&self) -> usize {
        FILES.iter().map(|(_, files)| files).sum()
    }

    fn rows_of(&self, file: usize) -> Range<u64> {
        let (folder, at, rows) = self.place(file);
        share(at, FILES[folder].1, rows)
    }

    fn append(&self, file: usize, rows: Range<u64>, out: &mut Vec<u8>) {
        let first = if self.place(file).0 == 0 { 0 } else { self.year };
        rows.for_each(|row| self.event(first + row, out));
    }
}
