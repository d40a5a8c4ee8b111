//! A job that reads only what is new: files arrive in any order, and its runs are killed, repeated and run at once.
//! Afterwards the rows that arrived are stored, each once.

use std::collections::BTreeMap;
use std::path::Path;

use hardtack_core::fault::POINTS;

use super::JobContract;
use super::torture::{Dice, rounds};
#[cfg(feature = "containers")]
use crate::containers::{Bucket, S3};
use crate::job::JobBinary;
use crate::lake::TempLake;
use crate::snapshot::table;

/// The files that arrive: each has one row, with an id in this column of the job's table.
#[derive(Debug, Clone, Copy)]
pub struct Arrivals {
    /// The column of the table.
    pub column: &'static str,
    /// The path below the source of a file of this hour, with this number within it.
    pub path: fn(hour: u64, number: u64) -> String,
    /// The content of a file whose row has this id.
    pub content: fn(id: u64) -> String,
}

/// Where a job reads and writes.
enum Place {
    Folder,
    #[cfg(feature = "containers")]
    Bucket(Bucket),
}

impl JobContract {
    /// Whatever arrives when, and whatever happens to the runs, each row is stored once.
    #[track_caller]
    pub fn each_arrival_is_stored_once(&self, arrivals: Arrivals) {
        let mut world = World::new(self, self.job(), Place::Folder, arrivals, Dice::of("arrivals"));
        (0..rounds(4)).for_each(|_| world.round());
    }

    /// The same on S3, where the bookmark is, too.
    #[cfg(feature = "containers")]
    #[track_caller]
    pub fn each_arrival_is_stored_once_on_s3(&self, service: &S3, arrivals: Arrivals) {
        let bucket = service.bucket();
        let job = self.job_on(&bucket);
        let mut world = World::new(self, job, Place::Bucket(bucket), arrivals, Dice::of("arrivals on S3"));
        (0..rounds(2)).for_each(|_| world.round());
    }
}

struct World<'a> {
    contract: &'a JobContract,
    job: JobBinary<'static>,
    place: Place,
    arrivals: Arrivals,
    dice: Dice,
    hour: u64,
    /// The ids that have arrived.
    ids: u64,
    /// The ids in files that can be replaced, by hour and number.
    files: BTreeMap<(u64, u64), u64>,
    /// What has happened, for the message.
    history: Vec<String>,
}

impl<'a> World<'a> {
    fn new(contract: &'a JobContract, job: JobBinary<'static>, place: Place, arrivals: Arrivals, dice: Dice) -> Self {
        let (files, history) = (BTreeMap::new(), Vec::new());
        let mut world = Self { contract, job, place, arrivals, dice, hour: 0, ids: 0, files, history };
        world.arrive(0);
        world
    }

    /// A dozen things happen; then everything has been stored.
    #[track_caller]
    fn round(&mut self) {
        for _ in 0..12 {
            match self.dice.below(10) {
                0..4 => {
                    // Late in the hour before, or in time.
                    let hour = self.hour.saturating_sub(self.dice.below(2));
                    self.arrive(hour);
                }
                4 => self.hour += 1,
                5 => self.run(),
                6 => self.replace(),
                7 | 8 => self.kill(),
                _ => self.run_twice_at_once(),
            }
        }
        self.run();
        self.check();
    }

    fn arrive(&mut self, hour: u64) {
        for _ in 0..=self.dice.below(2) {
            // A name before or after those that are there.
            let number = loop {
                let number = self.dice.below(1_000_000);
                if !self.files.contains_key(&(hour, number)) {
                    break number;
                }
            };
            self.write(hour, number);
        }
    }

    fn write(&mut self, hour: u64, number: u64) {
        let (path, content) = ((self.arrivals.path)(hour, number), (self.arrivals.content)(self.ids));
        self.history.push(format!("{} arrives in {path}", self.ids));
        self.files.insert((hour, number), self.ids);
        self.ids += 1;
        match &self.place {
            Place::Folder => {
                // A reader never sees half of a file.
                let dir = self.job.dir();
                dir.write("arriving", content);
                let to = dir.path().join("in").join(&path);
                std::fs::create_dir_all(to.parent().unwrap_or(Path::new(""))).expect("a folder can be made");
                std::fs::rename(dir.path().join("arriving"), to).expect("a file can be moved");
            }
            #[cfg(feature = "containers")]
            Place::Bucket(bucket) => bucket.write(&format!("in/{path}"), content),
        }
    }

    /// A file that was read is replaced: its new row comes in addition.
    fn replace(&mut self) {
        let open: Vec<(u64, u64)> = self.files.keys().copied().filter(|(hour, _)| hour + 1 >= self.hour).collect();
        if open.is_empty() {
            return;
        }
        self.run();
        let (hour, number) = *self.dice.one_of(&open);
        self.write(hour, number);
    }

    #[track_caller]
    fn run(&mut self) {
        self.history.push("a run".to_owned());
        self.job.run().assert_code(0);
    }

    /// A run dies at a step, the first time or the second.
    #[track_caller]
    fn kill(&mut self) {
        let point = *self.dice.one_of(POINTS);
        let action = ["return(kill)", "1*off->return(kill)"][usize::from(self.dice.below(2) == 1)];
        self.history.push(format!("a run is killed at {point}, {action}"));
        let run = self.job.failing_at(point, action).run();
        // Not each step is reached in each run.
        assert!(run.signal() == Some(9) || run.code() == Some(0), "{}\n{run}", self.story());
    }

    #[track_caller]
    fn run_twice_at_once(&mut self) {
        self.history.push("two runs at once".to_owned());
        let pause = format!("sleep({})", self.dice.below(300));
        let first = self.job.failing_at("run.staged", &pause).start();
        let second = self.job.run();
        let first = first.wait();
        for run in [&first, &second] {
            assert!(matches!(run.code(), Some(0 | 4)), "{}\n{run}", self.story());
        }
        assert!(first.code() == Some(0) || second.code() == Some(0), "{}\n{first}\n{second}", self.story());
    }

    #[track_caller]
    fn check(&self) {
        match &self.place {
            Place::Folder => self.check_in(self.job.dir()),
            #[cfg(feature = "containers")]
            Place::Bucket(bucket) => {
                self.check_in(&bucket.download());
                assert_eq!(bucket.open_uploads(), [""; 0], "{}", self.story());
            }
        }
    }

    #[track_caller]
    fn check_in(&self, lake: &TempLake) {
        let rows = lake.read_parquet(&format!("out/{}", self.contract.tables[0])).df();
        let ids = table(rows.select_columns(&[self.arrivals.column]).expect("the table has the column"));
        let mut ids: Vec<&str> = ids.lines().skip(1).map(str::trim).collect();
        ids.sort_unstable();
        let mut expected: Vec<String> = (0..self.ids).map(|id| id.to_string()).collect();
        expected.sort_unstable();
        assert_eq!(ids, expected, "{}", self.story());
        assert_eq!(lake.hidden_files("out"), [""; 0], "{}", self.story());
    }

    fn story(&self) -> String {
        format!("seed {}:\n{}", self.dice.seed(), self.history.join("\n"))
    }
}
