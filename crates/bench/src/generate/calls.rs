//! Records of calls of an API, as the job `access_records` reads them: 22 fields in a `payload`.
//!
//! One record in a hundred is delivered again, about fifty records later. Some fields are null or missing, some URLs are encoded.

use std::ops::Range;

use hardtack_core::Result;

use super::dice::{Dice, Weighted};
use super::text::{number, uuid};
use super::{Maker, Recipe, share};

/// Records at scale 1, those that are delivered again included.
const RECORDS: u32 = 1_000_000;
/// The number of files.
pub(super) const FILES: usize = 20;
/// The folder of the plain files.
pub(super) const FOLDER: &str = "plain/access_records";
/// The folder of the same, compressed.
pub(super) const GZIP_FOLDER: &str = "gzip/access_records";

/// The time of the first record, in milliseconds: 2026-03-01 18:00. Records are on three days.
const BEGIN: u64 = 1_772_388_000_000;
/// The milliseconds between two records at scale 1.
const STEP: u64 = 120;

/// Every hundredth record is the one this many before it, again.
const AGAIN: u64 = 57;

const METHODS: &[(u32, &str)] = &[(72, "GET"), (17, "POST"), (6, "PUT"), (3, "DELETE"), (2, "HEAD")];
const STATUS: &[(u32, u64)] = &[(85, 200), (6, 201), (4, 404), (3, 403), (1, 400), (1, 500)];

/// User agents, with their weights; a number takes the place of `~`.
const AGENTS: &[(u32, &str)] = &[
    (16, "Mozilla/5.0 (X11; Linux x86_64; rv:~.0) Gecko/20100101 Firefox/~.0"),
    (14, "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/~.1 Safari/605.1.15"),
    (6, "Opera/9.80 Presto/2.12.~"),
    (10, "Synapse-Web-Client/~.0 Synapse-Java-Client/develop"),
    (10, "Synapse-Java-Client/~.0"),
    (1, "Synpase-Java-Client/12.~"),
    (20, "synapseclient/4.~.0 python-requests/2.32.3"),
    (4, "synapsecommandlineclient synapseclient/4.~.0"),
    (6, "synapser/2.1.~ synapseclient/4.4.0"),
    (1, "synapseRClient/1.10-~"),
    (6, "ELB-HealthChecker/2.0"),
    (3, "SynapseRepositoryStack/~"),
    (3, "curl/8.~.0"),
];

/// Paths, with their weights; numbers take the place of `~`.
const PATHS: &[(u32, &str)] = &[
    (18, "/repo/v1/entity/syn~/bundle2"),
    (12, "/repo/v1/entity/syn~.3/table/transaction/async/get/~"),
    (10, "/file/v1/fileHandle/~/url"),
    (9, "/repo/v1/evaluation/submission/~/status"),
    (8, "/repo/v1/entity/syn~/wiki2/~;DA12/wikihistory"),
    (8, "/repo/v1/entity/children"),
    (6, "/repo/v1/userGroupHeaders/batch"),
    (6, "/repo/v1/entity/md5/7c~"),
    (5, "/ga4gh/drs/v1/objects/syn~.1/access/FileEntity_syn~"),
    (5, "/repo/v1/accessRequirement/%5B~%5D/submissions"),
    (4, "/repo/v1/schema/type/registered/org.harbour-Berth-1.~"),
    (3, "/auth/v1/2fa/token"),
    (3, "/repo/v1/user/bundle"),
    (2, "/repo/v1/entity/alias/Harbour~"),
    (1, "/web/version"),
];
const HOSTS: &[&str] = &["repo.harbour.example", "api.harbour.example", "files.harbour.example"];

/// The questions that the dice answer about a record.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Session,
    SessionEnd,
    Moment,
    User,
    Method,
    Path,
    Ids,
    Agent,
    AgentNumber,
    Host,
    Origin,
    Address,
    Thread,
    Elapsed,
    Status,
    Instance,
    Machine,
    Query,
    Returned,
    Oauth,
    Basic,
}

/// The records of one recipe.
pub(super) struct Calls {
    dice: Dice,
    records: u64,
    methods: Weighted,
    paths: Weighted,
    agents: Weighted,
    status: Weighted,
}

impl Calls {
    pub(super) fn new(recipe: Recipe) -> Result<Self> {
        let words = |of: &[(u32, &str)]| Weighted::new(of.iter().map(|(weight, _)| *weight));
        Ok(Self {
            dice: Dice::new(recipe.seed),
            records: recipe.rows(RECORDS)?,
            methods: words(METHODS),
            paths: words(PATHS),
            agents: words(AGENTS),
            status: Weighted::new(STATUS.iter().map(|(weight, _)| *weight)),
        })
    }

    /// Appends a record.
    fn record(&self, record: u64, out: &mut Vec<u8>) {
        let bits = |ask: Ask| self.dice.bits(ask as u64, record);
        let below = |ask: Ask, n: u64| self.dice.below(ask as u64, record, n);
        let known = |ask: Ask, per_mille: u64| self.dice.happens(ask as u64, record, per_mille);
        let literal = |out: &mut Vec<u8>, text: &str| out.extend_from_slice(text.as_bytes());
        // Any number in place of each `~`.
        let fill = |out: &mut Vec<u8>, text: &str, mut bits: u64| {
            for (at, part) in text.split('~').enumerate() {
                if at > 0 {
                    number(out, 1 + bits % 30_000, 1);
                    bits >>= 16;
                }
                literal(out, part);
            }
        };

        literal(out, r#"{"payload":{"sessionId":""#);
        uuid(out, bits(Ask::Session), bits(Ask::SessionEnd));
        literal(out, r#"","timestamp":"#);
        number(out, BEGIN + STEP * record * u64::from(RECORDS) / self.records.max(1) + below(Ask::Moment, 60_000), 1);
        literal(out, r#","userId":"#);
        match known(Ask::User, 800) {
            true => number(out, 273_950 + below(Ask::User, 100_000), 1),
            false => literal(out, "null"),
        }
        literal(out, r#","method":""#);
        literal(out, METHODS[self.methods.pick(bits(Ask::Method))].1);
        literal(out, r#"","requestURL":""#);
        fill(out, PATHS[self.paths.pick(bits(Ask::Path))].1, bits(Ask::Ids));
        literal(out, r#"","userAgent":""#);
        fill(out, AGENTS[self.agents.pick(bits(Ask::Agent))].1, 1 + below(Ask::AgentNumber, 40));
        literal(out, r#"","host":""#);
        literal(out, HOSTS[below(Ask::Host, HOSTS.len() as u64) as usize]);
        literal(out, r#"","origin":"#);
        literal(out, if known(Ask::Origin, 400) { r#""https://www.harbour.example""# } else { "null" });
        literal(out, r#","xforwardedFor":"10"#);
        for shift in [0, 8, 16] {
            literal(out, ".");
            number(out, bits(Ask::Address) >> shift & 255, 1);
        }
        literal(out, r#"","via":null,"threadId":"#);
        number(out, below(Ask::Thread, 4_000), 1);
        literal(out, r#","elapseMS":"#);
        number(out, below(Ask::Elapsed, 40_000) >> (bits(Ask::Elapsed) % 10), 1);
        let status = STATUS[self.status.pick(bits(Ask::Status))].1;
        literal(out, r#","success":"#);
        literal(out, if status < 400 { "true" } else { "false" });
        literal(out, r#","stack":"prod","instance":""#);
        number(out, 430 + below(Ask::Instance, 8), 6);
        literal(out, r#"","vmId":"i-"#);
        number(out, 7_000_000 + below(Ask::Machine, 40), 14);
        literal(out, r#"","returnObjectId":"#);
        match known(Ask::Returned, 200) {
            true => {
                literal(out, "\"");
                number(out, below(Ask::Returned, 90_000_000), 1);
                literal(out, "\"");
            }
            false => literal(out, "null"),
        }
        literal(out, r#","queryString":"#);
        literal(out, if known(Ask::Query, 300) { r#""limit=50&offset=0&sortBy=\"name\"""# } else { "null" });
        literal(out, r#","responseStatus":"#);
        number(out, status, 1);
        if known(Ask::Oauth, 150) {
            literal(out, r#","oauthClientId":"100036""#);
        }
        if known(Ask::Basic, 20) {
            literal(out, r#","basicAuthUsername":"hafenmeister-überall""#);
        }
        literal(out, r#","authenticationMethod":"SESSIONTOKEN"}}"#);
        out.push(b'\n');
    }
}

impl Maker for Calls {
    fn files(&self) -> usize {
        FILES
    }

    fn rows_of(&self, file: usize) -> Range<u64> {
        share(file, FILES, self.records)
    }

    fn append(&self, _: usize, rows: Range<u64>, out: &mut Vec<u8>) {
        for row in rows {
            self.record(if row % 100 == 99 { row - AGAIN } else { row }, out);
        }
    }
}
