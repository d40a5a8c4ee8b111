//! Access records: few fields at the top, 22 in their `payload`, among them an object and a list.
//!
//! Fields may be null or missing, lists may be empty, and some texts have escapes or characters beyond ASCII.

use std::ops::Range;

use hardtack_core::Result;

use super::dice::{Dice, Weighted};
use super::text::{Calendar, decimal, number};
use super::vocabulary::{CITIES, STREETS};
use super::{Maker, Recipe, share};

/// Records at scale 1.
const RECORDS: u32 = 1_000_000;
/// The number of files.
pub(super) const FILES: usize = 20;
/// The folder of the plain files.
pub(super) const FOLDER: &str = "access";
/// The folder of the same, compressed.
pub(super) const GZIP_FOLDER: &str = "access_gzip";

/// The time of the first record, in seconds: 2026-03-01.
const BEGIN: i64 = 1_772_323_200;

const METHODS: &[(u32, &str)] = &[(70, "GET"), (18, "POST"), (6, "PUT"), (3, "DELETE"), (3, "HEAD")];
const STATUS: &[(u32, u64)] =
    &[(78, 200), (6, 201), (5, 204), (3, 301), (2, 304), (2, 400), (1, 401), (2, 404), (1, 500)];
const COUNTRIES: &[(u32, &str)] =
    &[(30, "US"), (20, "DE"), (12, "FR"), (9, "PT"), (8, "BR"), (7, "JP"), (6, "IN"), (4, "NO"), (3, "NZ"), (1, "IS")];
const HOSTS: &[&str] = &["api.sea.example", "www.sea.example", "img.sea.example", "beta.sea.example"];
const AGENTS: &[&str] = &[
    "Mozilla/5.0 (X11; rv:145.0) Gecko Firefox/145.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64) Chrome/142.0",
    "Mozilla/5.0 (iPhone) Version/18.1",
    "curl/8.11.0",
    "harbour-sync/3.2",
];
const SYSTEMS: &[&str] = &["linux", "windows", "ios", "android", "macos"];
const BROWSERS: &[&str] = &["firefox", "chrome", "safari", "none"];
const TAGS: &[&str] = &["paid", "trial", "beta", "internal", "très-lent", "cold", "bot"];
const MESSAGES: &[&str] = &[
    r#"retried, because \"upstream\" closed the connection"#,
    r"C:\\logs\\access.log was rotated\nand compressed",
    r"r\u00e9ponse partielle\tde la cache",
    "Hafen überlastet, später erneut versucht",
    r"\uD83D\uDEA2 arrived",
    "港が混雑しています",
];

/// The questions that the dice answer about a record.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Second,
    Method,
    Host,
    Path,
    Item,
    Query,
    Status,
    BytesIn,
    BytesOut,
    Duration,
    Upstream,
    User,
    UserKnown,
    Session,
    Address,
    Agent,
    Referer,
    Tls,
    Cached,
    Country,
    Region,
    Client,
    System,
    Browser,
    Version,
    Mobile,
    Tags,
    Tag,
    Trace,
    Message,
}

/// The records of one recipe.
pub(super) struct Access {
    dice: Dice,
    calendar: Calendar,
    records: u64,
    methods: Weighted,
    status: Weighted,
    countries: Weighted,
}

impl Access {
    pub(super) fn new(recipe: Recipe) -> Result<Self> {
        Ok(Self {
            dice: Dice::new(recipe.seed),
            calendar: Calendar::new(),
            records: recipe.rows(RECORDS)?,
            methods: Weighted::new(METHODS.iter().map(|(weight, _)| *weight)),
            status: Weighted::new(STATUS.iter().map(|(weight, _)| *weight)),
            countries: Weighted::new(COUNTRIES.iter().map(|(weight, _)| *weight)),
        })
    }

    /// Appends a record.
    fn record(&self, record: u64, out: &mut Vec<u8>) {
        let bits = |ask: Ask| self.dice.bits(ask as u64, record);
        let below = |ask: Ask, n: u64| self.dice.below(ask as u64, record, n);
        let one_of = |ask: Ask, words: &[&'static str]| words[below(ask, words.len() as u64) as usize];
        let happens = |ask: Ask, per_mille: u64| self.dice.happens(ask as u64, record, per_mille);
        // Most values are small, few are large.
        let skewed = |ask: Ask, most: u64| below(ask, most) >> (bits(ask) % 12);
        let literal = |out: &mut Vec<u8>, text: &str| out.extend_from_slice(text.as_bytes());
        let text = |out: &mut Vec<u8>, name: &str, value: &str| {
            for part in [",\"", name, "\":\"", value, "\""] {
                literal(out, part);
            }
        };
        let key = |out: &mut Vec<u8>, name: &str| {
            for part in [",\"", name, "\":"] {
                literal(out, part);
            }
        };
        let integer = |out: &mut Vec<u8>, name: &str, value: u64| {
            key(out, name);
            number(out, value, 1);
        };
        let bool = |out: &mut Vec<u8>, name: &str, value: bool| {
            key(out, name);
            literal(out, if value { "true" } else { "false" });
        };

        literal(out, r#"{"id":"#);
        number(out, record + 1, 1);
        literal(out, r#","time":""#);
        self.calendar.instant(out, BEGIN + (record / 4) as i64 + below(Ask::Second, 60) as i64);
        literal(out, r#"","kind":"access","payload":{"method":""#);
        literal(out, METHODS[self.methods.pick(bits(Ask::Method))].1);
        literal(out, "\"");
        text(out, "host", one_of(Ask::Host, HOSTS));
        let street = one_of(Ask::Path, STREETS).split(' ').next().unwrap_or("");
        text(out, "path", "/v2/");
        out.pop();
        literal(out, street);
        literal(out, "/");
        number(out, below(Ask::Item, 100_000), 1);
        literal(out, "\"");
        match below(Ask::Query, 10) {
            0..3 => {}
            3 => literal(out, r#","query":null"#),
            page => {
                text(out, "query", "page=");
                out.pop();
                number(out, page, 1);
                literal(out, "\"");
            }
        }
        integer(out, "status", STATUS[self.status.pick(bits(Ask::Status))].1);
        integer(out, "bytes_in", skewed(Ask::BytesIn, 60_000));
        integer(out, "bytes_out", skewed(Ask::BytesOut, 30_000_000));
        key(out, "duration_ms");
        decimal(out, skewed(Ask::Duration, 9_000_000), 3);
        let cached = happens(Ask::Cached, 250);
        if !cached {
            key(out, "upstream_ms");
            decimal(out, skewed(Ask::Upstream, 8_000_000), 3);
        }
        match happens(Ask::UserKnown, 700) {
            true => integer(out, "user_id", 1 + below(Ask::User, 250_000)),
            false => literal(out, r#","user_id":null"#),
        }
        text(out, "session", "");
        out.pop();
        number(out, bits(Ask::Session) >> 26, 12);
        literal(out, r#"","ip":"10"#);
        for shift in [0, 8, 16] {
            literal(out, ".");
            number(out, bits(Ask::Address) >> shift & 255, 1);
        }
        literal(out, "\"");
        text(out, "user_agent", one_of(Ask::Agent, AGENTS));
        if happens(Ask::Referer, 400) {
            // Some writers escape slashes.
            text(out, "referer", r"https:\/\/www.sea.example\/");
            out.pop();
            literal(out, street);
            literal(out, "\"");
        }
        bool(out, "tls", happens(Ask::Tls, 980));
        bool(out, "cached", cached);
        text(out, "country", COUNTRIES[self.countries.pick(bits(Ask::Country))].1);
        match below(Ask::Region, 20) {
            0 => literal(out, r#","region":null"#),
            _ => text(out, "region", CITIES[below(Ask::Region, CITIES.len() as u64) as usize].1),
        }
        match below(Ask::Client, 50) {
            0 => literal(out, r#","client":null"#),
            _ => {
                literal(out, r#","client":{"os":""#);
                literal(out, one_of(Ask::System, SYSTEMS));
                literal(out, "\"");
                text(out, "browser", one_of(Ask::Browser, BROWSERS));
                integer(out, "version", 1 + below(Ask::Version, 150));
                bool(out, "mobile", happens(Ask::Mobile, 400));
                literal(out, "}");
            }
        }
        match below(Ask::Tags, 30) {
            0 => {}
            tags => {
                literal(out, r#","tags":["#);
                for tag in 0..tags % 4 {
                    let at = (bits(Ask::Tag) >> (8 * tag)) as usize % TAGS.len();
                    literal(out, if tag == 0 { "\"" } else { ",\"" });
                    literal(out, TAGS[at]);
                    literal(out, "\"");
                }
                literal(out, "]");
            }
        }
        text(out, "trace", "");
        out.pop();
        number(out, bits(Ask::Trace) >> 24, 13);
        literal(out, "\"");
        match below(Ask::Message, 10) {
            0..6 => literal(out, r#","message":null"#),
            6 => {}
            _ => text(out, "message", one_of(Ask::Message, MESSAGES)),
        }
        literal(out, "}}\n");
    }
}

impl Maker for Access {
    fn files(&self) -> usize {
        FILES
    }

    fn rows_of(&self, file: usize) -> Range<u64> {
        share(file, FILES, self.records)
    }

    fn append(&self, _: usize, rows: Range<u64>, out: &mut Vec<u8>) {
        for row in rows {
            self.record(row, out);
        }
    }
}
