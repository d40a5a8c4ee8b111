//! What every job that replaces tables promises, as tests that a job has for a line.

mod arrivals;
mod many;
mod runtime;
#[cfg(feature = "containers")]
mod s3;
mod torture;

use std::fmt::Write;
use std::path::Path;

pub use arrivals::Arrivals;
use hardtack_core::fault::POINTS;
use serde_json::{Value, json};
pub use torture::Operator;

use crate::job::{Finished, JobBinary};
use crate::lake::TempLake;
use crate::snapshot::table;

/// A job that replaces its tables by what is delivered: its binary, and two deliveries. The tests of these macros run
/// it on them:
///
/// | macro | promises |
/// | --- | --- |
/// | [`job_contract!`](crate::job_contract!) | re-runs, kills, usage, dry runs |
/// | [`csv_contract!`](crate::csv_contract!) | the forms of a CSV file |
/// | [`runtime_contract!`](crate::runtime_contract!) | kills at every step, concurrent runs, signals, errors, torture |
/// | `s3_contract!`, with the feature `containers` | the same on S3, and connections that break |
///
/// The job reads `in` (`--source`) and writes `out` (`--target`); paths of deliveries are below the source, those of
/// the tables below the target.
///
/// ```no_run
/// use hardtack_test_support::JobContract;
///
/// // In tests of a job: env!("CARGO_BIN_EXE_titles")
/// let contract = JobContract::new("target/debug/titles", "titles")
///     .earlier("books/a.jsonl", r#"{"title": "Emma"}"#)
///     .delivered("books/a.jsonl", r#"{"title": "Dune"}"#);
/// contract.killed_at_any_step_the_next_run_heals();
/// contract.refuses("books/a.jsonl", "[1,", 3, &["a.jsonl", "line: 1"]);
/// ```
#[derive(Debug, Clone)]
pub struct JobContract {
    binary: &'static str,
    tables: Vec<&'static str>,
    changing: Vec<&'static str>,
    earlier: Vec<Delivered>,
    delivered: Vec<Delivered>,
}

/// A path below the source, and what is there.
type Delivered = (String, Vec<u8>);

/// Where a run is killed.
const STEPS: [&str; 6] = [
    "stage.file.created",
    "stage.file.finished",
    "state.commit.before",
    "state.commit.after",
    "publish.file.after",
    "publish.delete.before",
];

/// Whether a run that is killed at this fault point has committed, so that it can only be rolled forward. (Points that
/// not every run passes precede the commit.)
pub fn is_committed(point: &str) -> bool {
    POINTS.iter().skip_while(|p| **p != "state.commit.after").any(|p| *p == point)
}

impl JobContract {
    /// The job of this binary, `env!("CARGO_BIN_EXE_<job>")`, and the folder of its table below the target.
    pub fn new(binary: &'static str, table: &'static str) -> Self {
        Self { binary, tables: vec![table], changing: Vec::new(), earlier: Vec::new(), delivered: Vec::new() }
    }

    /// Adds the folder of another table that the job writes.
    #[must_use]
    pub fn and_table(mut self, table: &'static str) -> Self {
        self.tables.push(table);
        self
    }

    /// Omits columns that differ from run to run, such as the time of the run.
    #[must_use]
    pub fn ignoring_columns(mut self, columns: impl IntoIterator<Item = &'static str>) -> Self {
        self.changing.extend(columns);
        self
    }

    /// Adds a file to the first delivery, whose rows differ from those of the second.
    #[must_use]
    pub fn earlier(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.earlier.push((path.to_owned(), content.as_ref().to_owned()));
        self
    }

    /// Adds a file to the second delivery, on which the job succeeds. It replaces the first: files that are not in it go.
    #[must_use]
    pub fn delivered(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.delivered.push((path.to_owned(), content.as_ref().to_owned()));
        self
    }

    /// The job from `in` to `out` in a lake of its own, to which nothing was delivered.
    pub fn job(&self) -> JobBinary<'static> {
        JobBinary::new(self.binary).args(["--source", "in", "--target", "out"])
    }

    /// The same, and the second delivery is there.
    pub fn job_with_delivery(&self) -> JobBinary<'static> {
        let job = self.job();
        deliver(job.dir(), &self.delivered);
        job
    }

    /// The job after the first delivery; the second is there.
    #[track_caller]
    pub fn job_after_the_earlier(&self) -> JobBinary<'static> {
        let job = self.job();
        deliver(job.dir(), &self.earlier);
        job.run().assert_code(0);
        assert_ne!(self.seen(job.dir()), "-", "the first delivery has no rows");
        job.dir().remove("in");
        deliver(job.dir(), &self.delivered);
        job
    }

    /// The job without any argument, after a run on a copy of its default source: a folder of the project's repository,
    /// such as `fixtures/lake`.
    #[track_caller]
    pub fn job_after_the_fixtures(&self, folder: &str) -> JobBinary<'static> {
        let package = std::env::current_dir().expect("tests run in the folder of their package");
        let fixtures = package.ancestors().map(|root| root.join(folder)).find(|path| path.is_dir());
        let job = JobBinary::new(self.binary);
        job.dir()
            .copy(folder, fixtures.unwrap_or_else(|| panic!("there is no `{folder}` above {}", package.display())));
        job.run().assert_code(0);
        job
    }

    /// The name of the job.
    fn name(&self) -> &str {
        Path::new(self.binary).file_name().and_then(|name| name.to_str()).expect("a binary has a name")
    }

    /// The place of the first source, below `in`: the folder of its file, or the file without its suffix.
    fn source(&self) -> &str {
        let path = &self.delivered.first().expect("something is delivered").0;
        let (place, _) = path.rsplit_once('/').or(path.split_once('.')).expect("a file with a suffix");
        place
    }

    /// The tables as a reader sees them: `-` if one has no file.
    pub fn seen(&self, lake: &TempLake) -> String {
        self.seen_in(lake, "out")
    }

    fn seen_in(&self, lake: &TempLake, target: &str) -> String {
        let seen = |name: &&str| match format!("{target}/{name}") {
            folder if lake.files(&folder).is_empty() => "-".to_owned(),
            folder => {
                let rows = lake.read_parquet(&folder).df().drop_columns(&self.changing);
                table(rows.expect("a column can be left out"))
            }
        };
        self.tables.iter().map(seen).collect::<Vec<_>>().join("\n")
    }

    /// What a reader sees when the first run has stored the second delivery.
    #[track_caller]
    pub fn seen_after_a_run(&self) -> String {
        self.expected().0
    }

    /// The same, and the number of files.
    #[track_caller]
    fn expected(&self) -> (String, usize) {
        let job = self.job_with_delivery();
        job.run().assert_code(0);
        (self.seen(job.dir()), job.dir().files("out").len())
    }

    /// The tables have the rows of the second delivery, once, and nothing else is left.
    #[track_caller]
    fn assert_complete(&self, lake: &TempLake, expected: &(String, usize), when: &str) {
        assert_eq!((self.seen(lake), lake.files("out").len()), *expected, "{when}");
        assert_eq!(lake.hidden_files("out"), [""; 0], "{when}, something is left");
    }

    // --- what every job promises --------------------------------------------------------------------------------------

    /// Bad usage ends with exit code 2, and the argument or a hint is named.
    #[track_caller]
    pub fn bad_usage_ends_with_code_2(&self) {
        let long = "x".repeat(260);
        let cases: [(&[&str], &str); 11] = [
            (&["--sauce", "in"], "--sauce"),
            (&["--source", "ftp://host/lake"], "s3://my-bucket"),
            (&["--target", "ftp://host/lake"], "--target"),
            (&["--target-database", "s3://lake/books"], "--target-database"),
            (&["--source-database", "raw.books"], "name only the database"),
            (&["--source-database", ""], "--source-database"),
            (&["--source"], "--source"),
            (&["--threads", "none"], "--threads"),
            (&["--state", ""], "--state"),
            (&["--scope", &long], "--scope"),
            (&["--spill-dir", "not/there"], "--spill-dir"),
        ];
        for (args, named) in cases {
            let job = JobBinary::new(self.binary).args(args);
            names(job.run().assert_code(2), &[args[0], named]);
            assert_eq!((job.dir().files(""), job.dir().hidden_files("")), (vec![], vec![]), "{args:?}");
        }
        let job = self.job();
        let endpoint = job.again().env("AWS_ENDPOINT_URL", "https://user:hidden@s3.example.org").run();
        names(endpoint.assert_code(2), &["AWS_ENDPOINT_URL"]);
        assert!(!endpoint.stderr.contains("hidden"), "{endpoint}");
        assert_eq!((job.dir().files(""), job.dir().hidden_files("")), (vec![], vec![]), "{endpoint}");
        // An empty lake is not a usage error: the files may arrive later.
        names(job.run().assert_code(1), &["no file to read", &format!("in/{}", self.source())]);
    }

    /// `SOURCE` and `TARGET` are as good as `--source` and `--target`.
    #[track_caller]
    pub fn arguments_come_from_the_environment_too(&self) {
        let job = JobBinary::new(self.binary).env("SOURCE", "in").env("TARGET", "from-env");
        deliver(job.dir(), &self.delivered);
        job.run().assert_code(0);
        assert_eq!(self.seen_in(job.dir(), "from-env"), self.expected().0);
    }

    /// A dry run touches nothing, and fails where a run would because there is nothing to read.
    #[track_caller]
    pub fn a_dry_run_touches_nothing_and_says_what_is_not_there(&self) {
        let job = self.job().arg("--dry-run");
        names(job.run().assert_code(1), &["no file to read"]);
        assert_eq!((job.dir().files(""), job.dir().hidden_files("")), (vec![], vec![]));
        deliver(job.dir(), &self.delivered);
        let there = job.dir().files("");
        job.run().assert_code(0);
        assert_eq!((job.dir().files(""), job.dir().hidden_files("")), (there, vec![]));
    }

    /// `--describe` prints what a scheduler must know, and what the job reads and writes, and touches nothing. Where nothing
    /// was delivered, that is a problem in the description.
    #[track_caller]
    pub fn it_describes_itself(&self) {
        let job = self.job().arg("--describe");
        let describe = || -> Value {
            let there = (job.dir().files(""), job.dir().hidden_files(""));
            let described = job.run();
            described.assert_code(0);
            assert_eq!((job.dir().files(""), job.dir().hidden_files("")), there, "{described}");
            serde_json::from_str(&described.stdout).expect("a description is JSON")
        };
        let problems = describe()["problems"].to_string();
        assert!(problems.contains("no file to read"), "{problems}");
        deliver(job.dir(), &self.delivered);
        let described = describe();
        assert_eq!((&described["format"], &described["problems"]), (&json!(1), &Value::Null), "{described:#}");
        let definition = &described["job"];
        assert_eq!(definition["name"], self.name());
        for key in ["version", "description", "owner"] {
            assert!(definition[key].as_str().is_some_and(|text| !text.is_empty()), "{key} is missing: {definition:#}");
        }
        let list = |of: &str, key: &str| -> Vec<String> {
            let all = described[of].as_array().into_iter().flatten();
            all.filter_map(|one| one[key].as_str().map(str::to_owned)).collect()
        };
        let root = job.dir().path().to_string_lossy().into_owned();
        for (of, place) in
            self.tables.iter().map(|table| ("sinks", format!("out/{table}"))).chain([("sources", "in/".to_owned())])
        {
            let found = list(of, "location");
            assert!(found.iter().any(|at| at.starts_with(&format!("{root}/{place}"))), "no {place} in {of}: {found:?}");
        }
        for argument in ["source", "target"] {
            assert!(list("arguments", "name").iter().any(|name| name == argument), "{described:#}");
        }
        let version = self.job().arg("--version").run();
        version.assert_code(0);
        let text = format!("{} {}", self.name(), definition["version"].as_str().unwrap_or_default());
        assert!(version.stdout.starts_with(&text), "{version}");
    }

    /// A second run replaces the files of the first by files with the same rows, whatever the target is called.
    #[track_caller]
    pub fn running_again_ends_in_the_same_state(&self) {
        let expected = self.expected();
        for target in ["out", "a/b/c", "ABSOLUTE/out/", "my lake", "Bücher/書", "100%/x%20y", "day=1"] {
            let job = JobBinary::new(self.binary).args(["--source", "in"]);
            deliver(job.dir(), &self.delivered);
            let job = job.again().arg("--target").arg(target.replace("ABSOLUTE", &job.dir().path().to_string_lossy()));
            let folder = target.replace("ABSOLUTE/", "");
            let mut before = Vec::new();
            for _ in 0..2 {
                job.run().assert_code(0);
                let files = job.dir().files(&folder);
                assert_eq!((self.seen_in(job.dir(), &folder), files.len()), expected, "{target}");
                assert_eq!(job.dir().hidden_files(&folder), [""; 0], "{target}");
                assert!(before.iter().all(|file| !files.contains(file)), "{target}: superseded files are still there");
                before = files;
            }
        }
    }

    /// Of two deliveries, the last is what readers see.
    #[track_caller]
    pub fn what_was_delivered_last_is_what_is_there(&self) {
        let job = self.job_after_the_earlier();
        job.run().assert_code(0);
        self.assert_complete(job.dir(), &self.expected(), "after the second delivery");
    }

    /// Killed before the commit, nothing has changed; killed after, the next run ends what was begun. Each step is tried at
    /// its first pass and, if a run passes it more than once, at its second.
    #[track_caller]
    pub fn killed_at_any_step_the_next_run_heals(&self) {
        let expected = self.expected();
        for point in STEPS {
            for action in ["return(kill)", "1*off->return(kill)"] {
                let job = self.job_after_the_earlier();
                let before = self.seen(job.dir());
                let killed = job.failing_at(point, action).run();
                let is_passed_once = action != "return(kill)" && killed.code() == Some(0);
                assert!(killed.signal() == Some(9) || is_passed_once, "{point} was not reached\n{killed}");
                if !is_committed(point) && !is_passed_once {
                    assert_eq!(self.seen(job.dir()), before, "killed at {point}, something was visible");
                }
                job.run().assert_code(0);
                self.assert_complete(job.dir(), &expected, &format!("killed at {point} ({action})"));
            }
        }
    }

    /// The machine's cores and time zone change neither rows nor the number of files.
    #[track_caller]
    pub fn cores_and_time_zone_do_not_matter(&self) {
        let expected = self.expected();
        for (threads, zone) in [("1", "America/New_York"), ("2", "UTC"), ("8", "Asia/Tokyo")] {
            let job = self.job_with_delivery().args(["--threads", threads]).env("TZ", zone);
            job.run().assert_code(0);
            self.assert_complete(job.dir(), &expected, &format!("{threads} threads in {zone}"));
        }
    }

    /// The second delivery makes one file in each of these folders of the table, such as `year=2024/month=2/day=29`.
    #[track_caller]
    pub fn has_one_file_in_each_of(&self, folders: &[&str]) {
        let job = self.job_with_delivery();
        job.run().assert_code(0);
        let files = job.dir().files("out");
        let found: Vec<_> = files.iter().filter_map(|file| Some(file.rsplit_once('/')?.0.to_owned())).collect();
        let wanted: Vec<_> = folders.iter().map(|folder| format!("out/{}/{folder}", self.tables[0])).collect();
        assert_eq!(found, wanted);
    }

    /// A table that the catalog does not have is named, with the command that makes it.
    #[track_caller]
    pub fn a_table_that_is_not_there_is_named(&self) {
        let job = self.job_with_delivery().args(["--source-database", "raw"]);
        // A crawler names a table by its folder or file.
        let table = format!("`raw.{}`", self.source().rsplit('/').next().unwrap_or_default());
        names(job.run().assert_code(1), &[&table, "hardtack crawl LOCATION --database raw"]);
        assert_eq!(job.dir().files("out"), [""; 0]);
    }

    /// If a file of the second delivery has this content, the job ends with the exit code and names these texts, and
    /// readers see what they saw before.
    #[track_caller]
    pub fn refuses(&self, path: &str, content: impl AsRef<[u8]>, code: i32, named: &[&str]) {
        self.fails_after(|lake| lake.write(&format!("in/{path}"), content), code, named);
    }

    /// If a file or folder of the second delivery is missing, the job ends with exit code 1 and names this text, and readers
    /// see what they saw before.
    #[track_caller]
    pub fn misses(&self, path: &str, named: &str) {
        self.fails_after(|lake| lake.remove(&format!("in/{path}")), 1, &[named]);
    }

    #[track_caller]
    fn fails_after(&self, change: impl FnOnce(&TempLake), code: i32, named: &[&str]) {
        let job = self.job_with_delivery();
        job.run().assert_code(0);
        let before = (job.dir().files("out"), self.seen(job.dir()));
        change(job.dir());
        names(job.run().assert_code(code), named);
        assert_eq!((job.dir().files("out"), self.seen(job.dir())), before, "something was published");
        assert_eq!(job.dir().hidden_files("out"), [""; 0]);
    }

    // --- what every job promises that reads CSV as a file or a folder --------------------------------------------------

    /// The CSV file `NAME.csv` of the second delivery, and the contract without it.
    #[track_caller]
    fn without_csv(&self, name: &str) -> (Self, Csv) {
        let mut contract = self.clone();
        let file = format!("{name}.csv");
        let at = contract.delivered.iter().position(|(path, _)| *path == file);
        let (_, content) = contract.delivered.remove(at.unwrap_or_else(|| panic!("no `{file}` is delivered")));
        (contract, Csv::of(&String::from_utf8(content).expect("CSV of a test is UTF-8")))
    }

    /// `NAME.csv` may be compressed, or a folder of such files, plain or compressed, with the same row in several of them. Files of
    /// other formats are not the job's.
    #[track_caller]
    pub fn csv_may_be_a_file_or_a_folder(&self, name: &str) {
        let expected = self.expected();
        let (others, csv) = self.without_csv(name);
        let (text, first) = (csv.text(), Csv { lines: csv.lines[..2].to_vec() }.text());
        let forms = [
            others.clone().delivered(&format!("{name}.csv.gz"), gzip(&text)),
            others
                .clone()
                .delivered(&format!("{name}.csv.gz"), gzip(&text))
                .delivered(&format!("{name}/x.parquet"), &text),
            others
                .delivered(&format!("{name}/2023/a.csv"), first)
                .delivered(&format!("{name}/all.csv.gz"), gzip(&text)),
        ];
        for form in forms {
            let job = form.job_with_delivery();
            job.run().assert_code(0);
            self.assert_complete(job.dir(), &expected, &format!("{:?}", job.dir().files("in")));
        }
    }

    /// Without `NAME.csv` the job says what it looked for (exit code 1), and with two of it which they are (exit code 2).
    #[track_caller]
    pub fn csv_that_is_missing_or_ambiguous_is_named(&self, name: &str) {
        let (others, csv) = self.without_csv(name);
        let [plain, compressed, inside] = [format!("{name}.csv"), format!("{name}.csv.gz"), format!("{name}/a.csv")];
        let folder = format!("a folder `{name}`");
        let looked_for = [format!("`{plain}`"), folder, format!("in/{name}")];
        let [json, second, notes] = [format!("{name}.json"), format!("{name}_2.csv"), format!("{name}/notes.txt")];
        let cases: [(i32, &[&String], &[String]); 4] = [
            (1, &[], &looked_for),
            (1, &[&json, &second, &notes], &[format!("`{plain}`"), "notes.txt".to_owned()]),
            (2, &[&plain, &inside], &[format!("in/{plain}` and `"), format!("in/{inside}`")]),
            (2, &[&plain, &compressed], &[format!("{plain}` and `"), format!("{compressed}`")]),
        ];
        for (code, files, named) in cases {
            let job = others.job_with_delivery();
            files.iter().for_each(|path| job.dir().write(&format!("in/{path}"), csv.text()));
            let named: Vec<&str> = named.iter().map(String::as_str).collect();
            names(job.run().assert_code(code), &named);
        }
    }

    /// Columns in another order and case, a column more, a byte order mark and other line ends make no difference. A header
    /// alone has no rows.
    #[track_caller]
    pub fn csv_headers_may_differ(&self, name: &str) {
        let expected = self.expected();
        let (others, csv) = self.without_csv(name);
        let swapped = |name: &String| match name.to_lowercase() {
            lower if lower == *name => name.to_uppercase(),
            lower => lower,
        };
        let [mut turned, mut wider] = [csv.clone(), csv.clone()];
        turned.lines.iter_mut().for_each(|cells| cells.reverse());
        turned.lines[0] = turned.lines[0].iter().map(swapped).collect();
        wider.lines.iter_mut().enumerate().for_each(|(n, cells)| cells.insert(1, format!("more{n}")));
        let file = format!("{name}.csv");
        for text in [turned.text(), wider.text(), format!("\u{feff}{}", csv.text()).replace('\n', "\r\n")] {
            let job = others.clone().delivered(&file, &text).job_with_delivery();
            job.run().assert_code(0);
            self.assert_complete(job.dir(), &expected, &text);
        }
        let header = Csv { lines: csv.lines[..1].to_vec() };
        let job = others.delivered(&file, header.text()).job_with_delivery();
        job.run().assert_code(0);
        assert_eq!(self.seen(job.dir()), "-");
    }

    /// A line with too few fields, a quote that is not closed, and a file without a column are refused.
    #[track_caller]
    pub fn malformed_csv_is_refused(&self, name: &str) {
        let (_, csv) = self.without_csv(name);
        let (file, text) = (format!("{name}.csv"), csv.text());
        let line = format!("line: {}", csv.lines.len() + 1);
        self.refuses(&file, text.clone() + "a,b\n", 3, &[&file, &line, "fields"]);
        let open = format!("\"{}\n", ",".repeat(csv.lines[0].len() - 1));
        self.refuses(&file, text + &open, 3, &[&file, &line, "quote"]);
        let mut renamed = csv.clone();
        let column = std::mem::replace(&mut renamed.lines[0][0], "another".to_owned()).to_lowercase();
        self.refuses(&file, renamed.text(), 3, &[&format!("no column `{column}`")]);
    }
}

fn deliver(lake: &TempLake, files: &[Delivered]) {
    files.iter().for_each(|(path, content)| lake.write(&format!("in/{path}"), content));
}

#[track_caller]
fn names(run: &Finished, named: &[&str]) {
    for part in named {
        assert!(run.stderr.contains(part), "`{part}` should be named\n{run}");
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, text.as_bytes()).and_then(|()| encoder.finish()).expect("memory has room")
}

/// Lines of CSV by their cells, as they are written. A cell holds no line end.
#[derive(Debug, Clone)]
struct Csv {
    lines: Vec<Vec<String>>,
}

impl Csv {
    fn of(text: &str) -> Self {
        let cells = |line: &str| {
            let mut quoted = false;
            let is_separator = |c: char| {
                quoted ^= c == '"';
                c == ',' && !quoted
            };
            line.split(is_separator).map(str::to_owned).collect()
        };
        Self { lines: text.lines().map(cells).collect() }
    }

    fn text(&self) -> String {
        self.lines.iter().fold(String::new(), |mut text, cells| {
            writeln!(text, "{}", cells.join(",")).expect("a text has room");
            text
        })
    }
}

/// Tests that a job keeps a [`JobContract`]: they are in a module `job_contract`, and each has the name of a method.
///
/// ```no_run
/// use hardtack_test_support::{JobContract, job_contract};
///
/// fn contract() -> JobContract {
///     // In tests of a job: env!("CARGO_BIN_EXE_titles")
///     JobContract::new("target/debug/titles", "titles")
///         .earlier("books/a.jsonl", r#"{"title": "Emma"}"#)
///         .delivered("books/a.jsonl", r#"{"title": "Dune"}"#)
/// }
///
/// job_contract!(contract());
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! job_contract {
    ($contract:expr) => {
        $crate::contract_tests! { job_contract: $contract;
            bad_usage_ends_with_code_2(),
            arguments_come_from_the_environment_too(),
            a_dry_run_touches_nothing_and_says_what_is_not_there(),
            it_describes_itself(),
            running_again_ends_in_the_same_state(),
            what_was_delivered_last_is_what_is_there(),
            killed_at_any_step_the_next_run_heals(),
            cores_and_time_zone_do_not_matter(),
            a_table_that_is_not_there_is_named(),
            a_run_id_that_was_used_gets_a_number(),
            logs_that_nobody_reads_do_not_fail_a_run(),
        }
    };
}

/// Tests that a job keeps a [`JobContract`] of which `NAME.csv` is read as a file or a folder of files; they are in a module
/// called like the name:
///
/// ```no_run
/// use hardtack_test_support::{JobContract, csv_contract};
///
/// fn contract() -> JobContract {
///     JobContract::new("target/debug/sales", "sales").delivered("sales.csv", "id,amount\n1,2.5\n")
/// }
///
/// csv_contract!(contract(), sales);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! csv_contract {
    ($contract:expr, $name:ident) => {
        $crate::contract_tests! { $name: $contract;
            csv_may_be_a_file_or_a_folder(stringify!($name)),
            csv_that_is_missing_or_ambiguous_is_named(stringify!($name)),
            csv_headers_may_differ(stringify!($name)),
            malformed_csv_is_refused(stringify!($name)),
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! contract_tests {
    ($module:ident: $contract:expr; $($promise:ident($($argument:expr)?)),+ $(,)?) => {
        mod $module {
            use super::*;

            $(
                #[test]
                fn $promise() {
                    $contract.$promise($($argument)?);
                }
            )+
        }
    };
}
