//! The real binary under attack: killed at random times, eight concurrent runs, paused, without disk space, on damaged
//! state. Afterwards readers see the same as after an undisturbed run, and `hardtack fsck` finds nothing.
//!
//! By default there are a few rounds, always the same. `HARDTACK_TORTURE_ROUNDS=200` runs more, and
//! `HARDTACK_TORTURE_SEED=7` different ones; a failure names its seed.

use std::path::Path;
use std::time::{Duration, Instant};

use hardtack::core::JobContext;
use hardtack::runtime::{Finding, RecoverOptions, RuntimeArgs, fsck, open_context, open_state, recover};
use hardtack::state::Ledger;
use hardtack_test_support::{Finished, JobBinary};

use crate::runs::{reference, single_threaded_job, write_events};
use crate::{after_the_morning, leftovers, state};

// --- chance --------------------------------------------------------------------------------------------------------

/// A random number generator (splitmix64): its output depends only on its seed.
struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// Creates the generator of a test: tests with the same seed get different numbers.
    fn of(test: &str) -> Self {
        let seed = from_env("HARDTACK_TORTURE_SEED", 1);
        let state = test.bytes().fold(seed, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into()));
        Self { seed, state }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }

    /// A random time within a run.
    fn within(&mut self, run: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(run.as_micros()).unwrap()))
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{name}: {text}: {e}")))
}

/// The number of rounds of a test; `default` unless the environment sets it.
fn rounds(default: u64) -> u64 {
    from_env("HARDTACK_TORTURE_ROUNDS", default)
}

// --- what must be so -----------------------------------------------------------------------------------------------

/// A lake whose job is tortured, and what readers should see of it in the end.
struct World {
    job: JobBinary<'static>,
    wanted: String,
    /// The duration of an undisturbed run.
    takes: Duration,
    dice: Dice,
}

impl World {
    fn new(test: &str) -> Self {
        let job = after_the_morning();
        let started = Instant::now();
        let wanted = state(reference().dir());
        // The reference has two runs.
        Self { job, wanted, takes: started.elapsed() / 2, dice: Dice::of(test) }
    }

    /// Checks that after one more undisturbed run everything is as it should be.
    #[track_caller]
    fn heals(&self, when: &str) {
        self.job.run().assert_code(0);
        let when = format!("{when} (seed {})", self.dice.seed);
        assert_eq!(state(self.job.dir()), self.wanted, "{when}");
        assert_eq!(leftovers(self.job.dir()), [""; 0], "{when}");
        assert_eq!(self.job.dir().files("out").len(), 2, "{when}: not one file per table");
        assert_eq!(self.findings(), [], "{when}");
    }

    fn context(&self) -> (JobContext, RuntimeArgs) {
        let options = RuntimeArgs::with_state(self.job.dir().at(".hardtack"));
        (open_context("torture", &options).unwrap(), options)
    }

    /// The findings of `hardtack fsck`.
    fn findings(&self) -> Vec<Finding> {
        let (ctx, options) = self.context();
        let state = open_state(ctx.stores(), &options.records.state).unwrap();
        tokio::runtime::Runtime::new().unwrap().block_on(fsck(&ctx, &state, false)).unwrap()
    }

    /// Checks that a disturbed run ended with an allowed exit code, and reported why it failed.
    #[track_caller]
    fn ended_well(&self, run: &Finished, codes: &[i32], when: &str) {
        let is_expected = run.signal() == Some(9) || run.code().is_some_and(|code| codes.contains(&code));
        assert!(is_expected && !run.stderr.contains("panicked"), "{when} (seed {})\n{run}", self.dice.seed);
    }
}

// --- attacks -------------------------------------------------------------------------------------------------------

#[test]
fn killed_at_random_moments() {
    let mut world = World::new("killed");
    for round in 0..rounds(6) {
        let kills = 1 + world.dice.below(3);
        for _ in 0..kills {
            let run = world.job.start();
            std::thread::sleep(world.dice.within(world.takes));
            run.kill();
            world.ended_well(&run.wait(), &[0], "killed");
        }
        world.heals(&format!("round {round}, after {kills} kills"));
    }
}

#[test]
fn eight_runs_at_once_some_of_which_are_killed() {
    let mut world = World::new("eight");
    for round in 0..rounds(2) {
        let runs: Vec<_> = (0..8).map(|_| world.job.start()).collect();
        for run in &runs {
            if world.dice.below(3) == 0 {
                std::thread::sleep(world.dice.within(world.takes));
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
#[test]
fn paused_and_overtaken() {
    let mut world = World::new("paused");
    for round in 0..rounds(4) {
        let paused = world.job.start();
        std::thread::sleep(world.dice.within(world.takes));
        paused.pause();
        let is_killed = world.dice.below(3) == 0;
        world.job.run().assert_code(0);
        paused.resume();
        if is_killed {
            std::thread::sleep(world.dice.within(world.takes / 4));
            paused.kill();
        }
        world.ended_well(&paused.wait(), &[0, 4], &format!("round {round}"));
        world.heals(&format!("round {round}"));
    }
}

/// No space for files beyond a size: first for those of the state location, then for those of the lake.
#[test]
fn without_room_for_any_file() {
    let world = World::new("room");
    let mut codes = Vec::new();
    for blocks in [0, 1, 2, 6, 16] {
        let run = world.job.again().with_file_limit(blocks).run();
        world.ended_well(&run, &[0, 1], &format!("{blocks} blocks"));
        codes.push(run.code());
        world.heals(&format!("{blocks} blocks"));
    }
    assert_eq!((codes.first(), codes.last()), (Some(&Some(1)), Some(&Some(0))), "{codes:?}");
}

/// There is space for all files except spill files, which are larger.
#[test]
fn without_room_for_what_is_spilled() {
    let job = single_threaded_job();
    write_events(job.dir(), 14_000, 200);
    let small = || job.again().args(["--memory-limit", "32MiB"]);
    let run = small().with_file_limit(2048).run();
    run.assert_code(1);
    assert!(run.stderr.contains("the spill disk is full"), "{run}");
    assert!(run.stderr.contains("`--spill-dir` sets a folder with more space"), "{run}");
    assert_eq!((job.dir().files("out"), leftovers(job.dir())), (Vec::new(), Vec::new()));
    small().run().assert_code(0);
    assert_eq!(job.dir().read_parquet("out/customers").num_rows(), 12_600);
    assert_eq!(leftovers(job.dir()), [""; 0]);
}

/// A staged file or a state record is damaged. Nothing is half published, and once the file is restored, recovery
/// continues.
#[test]
fn damaged_between_commit_and_recovery() {
    let mut world = World::new("damaged");
    let mut noticed = 0;
    let all = rounds(4);
    for round in 0..all {
        world.job = after_the_morning();
        let before = state(world.job.dir());
        let killed = world.job.failing_at("state.commit.after", "return(kill)").run();
        assert_eq!(killed.signal(), Some(9), "{killed}");
        // A damaged staged file is certain to be noticed; some of the state is dispensable.
        let files = match round % 2 {
            0 => leftovers(world.job.dir()),
            _ => world.job.dir().hidden_files(".hardtack"),
        };
        let file = world.dice.one_of(&files).clone();
        let path = world.job.dir().path().join(&file);
        let (whole, how) = damage(&mut world.dice, &path);
        let damaged = std::fs::read(&path).ok();
        let when = format!("round {round}, {file} {how}");

        let run = world.job.run();

        world.ended_well(&run, &[0, 1], &when);
        let seen = state(world.job.dir());
        if run.code() == Some(0) {
            assert_eq!(seen, world.wanted, "{when}\n{run}");
        } else {
            noticed += 1;
            assert_eq!(seen, before, "{when}: something is published\n{run}");
            assert_ne!(world.findings(), [], "{when}: nothing is found\n{run}");
        }
        // Restored, unless it has been replaced. A run may have continued without it; then it is out of date, as if
        // somebody had restored a copy.
        if std::fs::read(&path).ok() == damaged {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, whole).unwrap();
        }
        if run.code() == Some(0) {
            repaired(&world);
        }
        world.heals(&when);
    }
    assert!(noticed >= all.div_ceil(2), "of {all} only {noticed} were noticed");
}

/// Damages a file; returns its original content and a description of the damage.
fn damage(dice: &mut Dice, path: &Path) -> (Vec<u8>, &'static str) {
    let whole = std::fs::read(path).unwrap();
    let how = *dice.one_of(&["emptied", "cut short", "flipped", "removed"]);
    match how {
        "emptied" => std::fs::write(path, "").unwrap(),
        "cut short" => std::fs::write(path, &whole[..whole.len() / 2]).unwrap(),
        "flipped" => {
            let mut bytes = whole.clone();
            let at = usize::try_from(dice.below(whole.len() as u64)).unwrap();
            bytes[at] ^= 1 << dice.below(8);
            std::fs::write(path, bytes).unwrap();
        }
        _ => std::fs::remove_file(path).unwrap(),
    }
    (whole, how)
}

fn repaired(world: &World) {
    let (ctx, options) = world.context();
    let state = open_state(ctx.stores(), &options.records.state).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(fsck(&ctx, &state, true)).unwrap();
}

/// A run commits while others recover it because they assume that it was killed.
#[test]
fn recovered_while_it_commits() {
    let mut world = World::new("recovered");
    for round in 0..rounds(3) {
        let point = *world.dice.one_of(&[
            "state.commit.after",
            "publish.file.before",
            "publish.file.after",
            "state.done.before",
        ]);
        let mut run = world.job.failing_at(point, "sleep(30)").start();
        let (ctx, options) = world.context();
        let recovers = async {
            let state = open_state(ctx.stores(), &options.records.state).unwrap();
            let ledger = Ledger::new(state, "customer_events", "default");
            while run.is_running() {
                recover(&ctx, &ledger, RecoverOptions::default()).await.unwrap();
            }
        };
        tokio::runtime::Runtime::new().unwrap().block_on(recovers);
        let when = format!("round {round}, at {point}");
        run.wait().assert_code(0);
        world.heals(&when);
    }
}
