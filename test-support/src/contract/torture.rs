//! The real binary under attack: killed at random times, eight concurrent runs, paused, without disk space, on damaged
//! state. Afterwards readers see the same as after an undisturbed run, and `hardtack fsck` finds nothing.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use hardtack_core::Location;

use super::JobContract;
use crate::job::{Finished, JobBinary};

/// The commands of `hardtack` that look after the state of a job. This crate does not depend on the runtime, so a job
/// passes them.
pub trait Operator {
    /// What `hardtack fsck` finds at this state location, and repairs if it shall.
    fn fsck(&self, state: &Location, repair: bool) -> Vec<String>;

    /// Recovers a job, as `hardtack recover` does.
    fn recover(&self, state: &Location, job: &str);
}

// --- chance --------------------------------------------------------------------------------------------------------

/// A random number generator (splitmix64): its output depends only on its seed.
pub(super) struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// Creates the generator of a test: tests with the same seed get different numbers.
    pub(super) fn of(test: &str) -> Self {
        let seed = from_env("HARDTACK_TORTURE_SEED", 1);
        let state = test.bytes().fold(seed, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into()));
        Self { seed, state }
    }

    /// For messages of failures.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }

    /// A random time within a run.
    fn within(&mut self, run: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(run.as_micros()).expect("a run is short")))
    }

    pub(super) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).expect("an index")]
    }
}

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{name}: {text}: {e}")))
}

/// The number of rounds of a test; `default` unless the environment sets it.
pub(super) fn rounds(default: u64) -> u64 {
    from_env("HARDTACK_TORTURE_ROUNDS", default)
}

// --- what must be so -----------------------------------------------------------------------------------------------

/// A lake whose job is tortured, and what readers should see of it in the end.
struct World<'a> {
    contract: &'a JobContract,
    operator: &'a dyn Operator,
    job: JobBinary<'static>,
    expected: (String, usize),
    /// The duration of an undisturbed run.
    takes: Duration,
    dice: Dice,
}

impl<'a> World<'a> {
    #[track_caller]
    fn new(contract: &'a JobContract, operator: &'a dyn Operator, test: &str) -> Self {
        let started = Instant::now();
        let (job, expected) = contract.world();
        // The first delivery and the undisturbed run are a run each.
        Self { contract, operator, job, expected, takes: started.elapsed() / 2, dice: Dice::of(test) }
    }

    /// Checks that after one more undisturbed run everything is as it should be.
    #[track_caller]
    fn heals(&self, when: &str) {
        self.job.run().assert_code(0);
        let when = format!("{when} (seed {})", self.dice.seed);
        self.contract.assert_complete(self.job.dir(), &self.expected, &when);
        assert_eq!(self.fsck(false), [""; 0], "{when}");
    }

    fn fsck(&self, repair: bool) -> Vec<String> {
        self.operator.fsck(&self.job.dir().at(".hardtack"), repair)
    }

    /// Checks that a disturbed run ended with an allowed exit code, and reported why it failed.
    #[track_caller]
    fn ended_well(&self, run: &Finished, codes: &[i32], when: &str) {
        let is_expected = run.signal() == Some(9) || run.code().is_some_and(|code| codes.contains(&code));
        assert!(is_expected && !run.stderr.contains("panicked"), "{when} (seed {})\n{run}", self.dice.seed);
    }
}

// --- attacks -------------------------------------------------------------------------------------------------------

impl JobContract {
    /// Killed at random moments, up to three times in a row.
    #[track_caller]
    pub fn killed_at_random_moments(&self, operator: &dyn Operator) {
        let mut world = World::new(self, operator, "killed");
        for round in 0..rounds(6) {
            let kills = 1 + world.dice.below(3);
            for _ in 0..kills {
                let run = world.job.start();
                sleep(world.dice.within(world.takes));
                run.kill();
                world.ended_well(&run.wait(), &[0], "killed");
            }
            world.heals(&format!("round {round}, after {kills} kills"));
        }
    }

    /// Eight runs at once, some of which are killed.
    #[track_caller]
    pub fn eight_runs_at_once_some_of_which_are_killed(&self, operator: &dyn Operator) {
        let mut world = World::new(self, operator, "eight");
        for round in 0..rounds(2) {
            let runs: Vec<_> = (0..8).map(|_| world.job.start()).collect();
            for run in &runs {
                if world.dice.below(3) == 0 {
                    sleep(world.dice.within(world.takes));
                    run.kill();
                }
            }
            let ended: Vec<Finished> = runs.into_iter().map(|run| run.wait()).collect();
            for run in &ended {
                // A superseded run may be retried: the code is 4, and never 2.
                world.ended_well(run, &[0, 4], &format!("round {round}"));
            }
            world.heals(&format!("round {round}"));
        }
    }

    /// A sleeping laptop: the run resumes long after another has done its work.
    #[track_caller]
    pub fn paused_and_overtaken(&self, operator: &dyn Operator) {
        let mut world = World::new(self, operator, "paused");
        for round in 0..rounds(4) {
            let paused = world.job.start();
            sleep(world.dice.within(world.takes));
            paused.pause();
            let is_killed = world.dice.below(3) == 0;
            world.job.run().assert_code(0);
            paused.resume();
            if is_killed {
                sleep(world.dice.within(world.takes / 4));
                paused.kill();
            }
            world.ended_well(&paused.wait(), &[0, 4], &format!("round {round}"));
            world.heals(&format!("round {round}"));
        }
    }

    /// No space for files beyond a size: first for those of the state location, then for those of the lake.
    #[track_caller]
    pub fn without_room_for_any_file(&self, operator: &dyn Operator) {
        let world = World::new(self, operator, "room");
        let mut codes = Vec::new();
        for blocks in [0, 1, 2, 6, 16] {
            let run = world.job.again().with_file_limit(blocks).run();
            world.ended_well(&run, &[0, 1], &format!("{blocks} blocks"));
            codes.push(run.code());
            world.heals(&format!("{blocks} blocks"));
        }
        assert_eq!((codes.first(), codes.last()), (Some(&Some(1)), Some(&Some(0))), "{codes:?}");
    }

    /// A staged file or a state record is damaged. Nothing is half published, and once the file is restored, recovery
    /// continues.
    #[track_caller]
    pub fn damaged_between_commit_and_recovery(&self, operator: &dyn Operator) {
        let mut world = World::new(self, operator, "damaged");
        let mut noticed = 0;
        let all = rounds(4);
        for round in 0..all {
            world.job = self.job_after_the_earlier();
            let before = self.seen(world.job.dir());
            let killed = world.job.failing_at("state.commit.after", "return(kill)").run();
            assert_eq!(killed.signal(), Some(9), "{killed}");
            // A damaged staged file is certain to be noticed; some of the state is dispensable.
            let files = world.job.dir().hidden_files(if round % 2 == 0 { "out" } else { ".hardtack" });
            let file = world.dice.one_of(&files).clone();
            let path = world.job.dir().path().join(&file);
            let (whole, how) = damage(&mut world.dice, &path);
            let damaged = fs::read(&path).ok();
            let when = format!("round {round}, {file} {how}");

            let run = world.job.run();

            world.ended_well(&run, &[0, 1], &when);
            let seen = self.seen(world.job.dir());
            if run.code() == Some(0) {
                assert_eq!(seen, world.expected.0, "{when}\n{run}");
            } else {
                noticed += 1;
                assert_eq!(seen, before, "{when}: something is published\n{run}");
                assert_ne!(world.fsck(false), [""; 0], "{when}: nothing is found\n{run}");
            }
            // Restored, unless it has been replaced. A run may have continued without it; then it is out of date, as if
            // somebody had restored a copy.
            if fs::read(&path).ok() == damaged {
                world.job.dir().write(&file, whole);
            }
            if run.code() == Some(0) {
                world.fsck(true);
            }
            world.heals(&when);
        }
        assert!(noticed >= all.div_ceil(2), "of {all} only {noticed} were noticed");
    }

    /// A run commits while others recover it because they assume that it was killed.
    #[track_caller]
    pub fn recovered_while_it_commits(&self, operator: &dyn Operator) {
        let mut world = World::new(self, operator, "recovered");
        let points = ["state.commit.after", "publish.file.before", "publish.file.after", "state.done.before"];
        for round in 0..rounds(3) {
            let point = *world.dice.one_of(&points);
            let mut run = world.job.failing_at(point, "sleep(30)").start();
            while run.is_running() {
                operator.recover(&world.job.dir().at(".hardtack"), self.name());
            }
            run.wait().assert_code(0);
            world.heals(&format!("round {round}, at {point}"));
        }
    }
}

/// Damages a file; returns its original content and a description of the damage.
fn damage(dice: &mut Dice, path: &Path) -> (Vec<u8>, &'static str) {
    let whole = fs::read(path).expect("a file that was listed");
    let how = *dice.one_of(&["emptied", "cut short", "flipped", "removed"]);
    let damaged = match how {
        "emptied" => fs::write(path, ""),
        "cut short" => fs::write(path, &whole[..whole.len() / 2]),
        "flipped" => {
            let mut bytes = whole.clone();
            let at = usize::try_from(dice.below(whole.len() as u64)).expect("an index");
            bytes[at] ^= 1 << dice.below(8);
            fs::write(path, bytes)
        }
        _ => fs::remove_file(path),
    };
    damaged.expect("a file can be damaged");
    (whole, how)
}
