//! Change events of customers, in Debezium's form: an insert of every customer, then a batch of changes, and those of
//! them that fall in a quarter of the buckets of an Iceberg table.
//!
//! Seven of ten changes are updates, one is a delete and two are new customers. Some customers change several times, one
//! change in a hundred is delivered twice, one in a hundred is an update that a delete follows within the millisecond,
//! and one update in fifty is older than the insert of its customer. The changes are shuffled, so that their order in
//! the files is not the order of their times. No two other events of a customer have the same time, so the last one is
//! the same for all engines.

use std::ops::Range;

use hardtack_core::Result;

use super::dice::Dice;
use super::text::number;
use super::vocabulary::{FIRST_NAMES, LAST_NAMES};
use super::{Maker, Recipe, share};

/// Customers that are inserted at scale 1.
const CUSTOMERS: u32 = 2_000_000;
/// Events that change them at scale 1.
const CHANGES: u32 = 400_000;
/// The folders of the batches, with their number of files.
pub(super) const FILES: [(&str, usize); 3] =
    [("inserts/customer_events", 8), ("changes/customer_events", 4), ("few/customer_events", 1)];

/// The buckets of the job's Iceberg tables, and in how many of them the few changes fall.
const BUCKETS: u32 = 16;
const FEW_BUCKETS: u32 = 4;

/// The time of the first insert, in milliseconds: 2026-01-01.
const BEGIN: u64 = 1_767_225_600_000;
/// Milliseconds from one event to the next.
const STEP: u64 = 50;

/// First names that JSON may write in several ways: with and without escapes, in one to four bytes a character.
const UNUSUAL_NAMES: &[&str] = &[r"Zo\u00eb", "Jiří", r#"Anna \"Anni\""#, "Łucja", r"Wei\uD83D\uDE00", "Ünal", "明美"];

/// The questions that the dice answer about an event or a customer.
#[derive(Debug, Clone, Copy)]
enum Ask {
    First,
    Unusual,
    Last,
    Email,
    EmailKnown,
    Jitter,
    Pair,
    Kind,
    Whom,
    Customer,
    New,
    Late,
    Replay,
    Original,
    Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Update,
    Delete,
    New,
}

/// The batches of one recipe.
pub(super) struct Events {
    dice: Dice,
    customers: u64,
    changes: u64,
    /// From one change in a file to the next, in the order of time; has no divisor in common with their number.
    stride: u64,
}

impl Events {
    pub(super) fn new(recipe: Recipe) -> Result<Self> {
        let (customers, changes) = (recipe.rows(CUSTOMERS)?, recipe.rows(CHANGES)?);
        let golden = changes * 618 / 1000;
        let stride = (golden..).find(|stride| divisor(*stride, changes) == 1).unwrap_or(1);
        Ok(Self { dice: Dice::new(recipe.seed), customers, changes, stride })
    }

    fn below(&self, ask: Ask, index: u64, n: u64) -> u64 {
        self.dice.below(ask as u64, index, n)
    }

    fn happens(&self, ask: Ask, index: u64, per_mille: u64) -> bool {
        self.dice.happens(ask as u64, index, per_mille)
    }

    /// The folder of a file, its position in it, and the number of rows of the folder.
    fn place(&self, file: usize) -> (usize, usize, u64) {
        match file.checked_sub(FILES[0].1) {
            None => (0, file, self.customers),
            Some(file) if file < FILES[1].1 => (1, file, self.changes),
            Some(file) => (2, file - FILES[1].1, self.changes),
        }
    }

    /// Appends the insert of a customer, who are numbered from 0.
    fn insert(&self, customer: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"before":null,"after":"#);
        self.row(customer, customer, out);
        end(out, b'c', BEGIN + customer * STEP + self.below(Ask::Jitter, customer, STEP));
    }

    /// What is delivered at a position of the changes.
    fn delivered(&self, position: u64) -> u64 {
        let mut change = ((u128::from(position) * u128::from(self.stride)) % u128::from(self.changes)) as u64;
        while change > 0 && self.happens(Ask::Replay, change, 10) {
            change -= 1 + self.below(Ask::Original, change, change.min(1000));
        }
        change
    }

    /// Appends a change.
    fn change(&self, change: u64, out: &mut Vec<u8>) {
        let customer = self.customer(change);
        let before = |out: &mut Vec<u8>| {
            out.extend_from_slice(br#"{"before":"#);
            self.row(customer, customer, out);
            out.extend_from_slice(br#","after":"#);
        };
        match self.kind(change) {
            Kind::New => {
                out.extend_from_slice(br#"{"before":null,"after":"#);
                self.row(customer, customer, out);
                end(out, b'c', self.time(change));
            }
            Kind::Update => {
                before(out);
                self.row(customer, 1 << 63 | change, out);
                end(out, b'u', self.time(change));
            }
            Kind::Delete => {
                before(out);
                out.extend_from_slice(b"null");
                end(out, b'd', self.time(change));
            }
        }
    }

    /// Whether this change and the next are an update and a delete in the same millisecond.
    fn is_paired(&self, change: u64) -> bool {
        change | 1 < self.changes && self.happens(Ask::Pair, change / 2, 10)
    }

    fn kind(&self, change: u64) -> Kind {
        match (self.is_paired(change), self.below(Ask::Kind, change, 10)) {
            (true, _) if change.is_multiple_of(2) => Kind::Update,
            (true, _) => Kind::Delete,
            (false, 0..7) => Kind::Update,
            (false, 7) => Kind::Delete,
            (false, _) => Kind::New,
        }
    }

    fn customer(&self, change: u64) -> u64 {
        let change = if self.is_paired(change) { change & !1 } else { change };
        if self.kind(change) == Kind::New {
            return self.customers + change;
        }
        match self.below(Ask::Whom, change, 100) {
            // One in two hundred customers changes often.
            0..10 => self.below(Ask::Customer, change, (self.customers / 200).max(1)) * 199 % self.customers,
            // One who is new in this batch.
            10..15 if change > 0 && self.kind(self.below(Ask::New, change, change)) == Kind::New => {
                self.customers + self.below(Ask::New, change, change)
            }
            _ => self.below(Ask::Customer, change, self.customers),
        }
    }

    fn time(&self, change: u64) -> u64 {
        if self.is_paired(change) {
            return self.moment(change & !1);
        }
        match self.kind(change) {
            Kind::Update if self.happens(Ask::Late, change, 20) => BEGIN - 1 - change,
            _ => self.moment(change),
        }
    }

    fn moment(&self, change: u64) -> u64 {
        BEGIN + (self.customers + change) * STEP + self.below(Ask::Jitter, self.customers + change, STEP)
    }

    /// Appends a customer: as inserted if `version` is the customer, else as changed.
    fn row(&self, customer: u64, version: u64, out: &mut Vec<u8>) {
        let of = |ask: Ask, index: u64, names: &[&'static str]| {
            names[self.below(ask, index, names.len() as u64) as usize].as_bytes()
        };
        // An update changes the last name, the e-mail, or both.
        let part = self.below(Ask::Change, version, 3);
        let last = of(Ask::Last, if part == 0 { customer } else { version }, LAST_NAMES);
        let email = if part == 1 { customer } else { version };
        out.extend_from_slice(br#"{"id":"#);
        number(out, customer + 1, 1);
        out.extend_from_slice(br#","first_name":""#);
        let names = if self.happens(Ask::Unusual, customer, 20) { UNUSUAL_NAMES } else { FIRST_NAMES };
        out.extend_from_slice(of(Ask::First, customer, names));
        out.extend_from_slice(br#"","last_name":""#);
        out.extend_from_slice(last);
        match self.happens(Ask::EmailKnown, email, 970) {
            false => out.extend_from_slice(br#"","email":null}"#),
            true => {
                out.extend_from_slice(br#"","email":""#);
                out.extend(of(Ask::Last, email, LAST_NAMES).iter().take(6).map(u8::to_ascii_lowercase));
                number(out, self.below(Ask::Email, email, 1_000_000), 1);
                out.extend_from_slice(br#"@sea.example"}"#);
            }
        }
    }
}

impl Maker for Events {
    fn files(&self) -> usize {
        FILES.iter().map(|(_, files)| files).sum()
    }

    fn rows_of(&self, file: usize) -> Range<u64> {
        let (folder, at, rows) = self.place(file);
        share(at, FILES[folder].1, rows)
    }

    fn append(&self, file: usize, rows: Range<u64>, out: &mut Vec<u8>) {
        for row in rows {
            match self.place(file).0 {
                0 => self.insert(row, out),
                1 => self.change(self.delivered(row), out),
                _ => {
                    let change = self.delivered(row);
                    // Customers are numbered from 0, and their ids count from 1.
                    if bucket(self.customer(change) + 1) < FEW_BUCKETS {
                        self.change(change, out);
                    }
                }
            }
        }
    }
}

fn end(out: &mut Vec<u8>, op: u8, time: u64) {
    out.extend_from_slice(br#","op":""#);
    out.push(op);
    out.extend_from_slice(br#"","ts_ms":"#);
    number(out, time, 1);
    out.extend_from_slice(b"}\n");
}

/// The bucket of an id, as Iceberg's specification has it.
fn bucket(id: u64) -> u32 {
    (murmur3(id) & 0x7fff_ffff) % BUCKETS
}

/// Murmur3 (32 bits, x86, seed 0) of a number's eight bytes.
fn murmur3(number: u64) -> u32 {
    let hash = [number as u32, (number >> 32) as u32].into_iter().fold(0u32, |hash, word| {
        let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
        (hash ^ word).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    let hash = hash ^ 8;
    let hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// The greatest common divisor.
fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value that Iceberg's specification gives.
    #[test]
    fn buckets_are_those_of_iceberg() {
        assert_eq!(murmur3(34), 2_017_239_379);
    }
}
