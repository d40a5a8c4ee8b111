//! A model of racing runs: real ledgers over a store that executes one operation at a time, in any interleaving of the
//! runs, with a kill at any point. It explores every state that two runs, or a run and a person who abandons its
//! commit, reach with up to three interruptions, and samples the states of two and three runs, and of two runs and a
//! person, with arbitrary interruptions.
//!
//! A run is a future; each operation of a store waits for its turn, so polling the future once executes exactly one
//! operation. The next step of a run depends only on the responses it has received, so a state consists of the content
//! of the store and the responses that each run still remembers. In every state all runs are killed, another one runs
//! undisturbed, and the result is checked.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::future::{Future, poll_fn};
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use hardtack_core::{DiscardAction, ErrorKind, Journal, PublishAction, Result};
use hardtack_state::{Abandonment, Begun, CommitRecord, End, Finished, Ledger, RunStatus, Settlement, StateStore};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::run;

/// The durable objects: those of the state location, and those of the lake below `lake/`.
type Objects = BTreeMap<String, Bytes>;

/// One run's access to the objects, one operation at a time.
#[derive(Debug)]
struct Turns {
    objects: Arc<Mutex<Objects>>,
    mine: Mutex<Mine>,
}

#[derive(Debug, Default)]
struct Mine {
    /// The number of operations that may be executed now.
    permits: usize,
    waiting: Vec<Waker>,
    /// A hash of all responses that it remembers.
    answers: u64,
}

impl Turns {
    fn new(objects: Arc<Mutex<Objects>>, permits: usize) -> Arc<Self> {
        Arc::new(Self { objects, mine: Mutex::new(Mine { permits, ..Mine::default() }) })
    }

    fn permit(&self) {
        let mut mine = self.mine.lock().unwrap();
        mine.permits = 1;
        mine.waiting.drain(..).for_each(Waker::wake);
    }

    /// Replaces the remembered responses by `remembered`: the position of a run and the values it has kept.
    fn remember(&self, remembered: impl Hash) {
        self.mine.lock().unwrap().answers = hash(&remembered);
    }

    /// Executes an operation when it is this run's turn.
    async fn turn<T: Hash>(&self, operation: impl FnOnce(&mut Objects) -> T) -> T {
        poll_fn(|cx: &mut Context<'_>| {
            let mut mine = self.mine.lock().unwrap();
            if mine.permits == 0 {
                mine.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            mine.permits = mine.permits.saturating_sub(1);
            Poll::Ready(())
        })
        .await;
        let answer = operation(&mut self.objects.lock().unwrap());
        let mut mine = self.mine.lock().unwrap();
        mine.answers = hash(&(mine.answers, &answer));
        answer
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[async_trait]
impl StateStore for Turns {
    async fn create(&self, key: &str, value: Bytes) -> Result<bool> {
        let create = |objects: &mut Objects| {
            let is_new = !objects.contains_key(key);
            objects.entry(key.to_owned()).or_insert(value);
            is_new
        };
        Ok(self.turn(create).await)
    }
    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        self.turn(|objects| drop(objects.insert(key.to_owned(), value))).await;
        Ok(())
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.turn(|objects| objects.get(key).cloned()).await)
    }
    async fn list<'a>(&self, prefix: &'a str, after: Option<&'a str>) -> Result<Vec<String>> {
        let is_meant =
            |key: &&String| key.starts_with(&format!("{prefix}/")) && after.is_none_or(|after| key.as_str() > after);
        Ok(self.turn(|objects| objects.keys().filter(is_meant).cloned().collect()).await)
    }
    async fn delete(&self, key: &str) -> Result<()> {
        self.turn(|objects| drop(objects.remove(key))).await;
        Ok(())
    }
}

// --- a run ---------------------------------------------------------------------------------------------------------

/// A run as the runtime executes it, with the lake in place of a job's sinks.
struct Process {
    id: String,
    turns: Arc<Turns>,
    ledger: Ledger,
    now: DateTime<Utc>,
}

/// The number of files that a run stages: the second is staged after the first has been recorded.
const FILES: usize = 2;

impl Process {
    fn new(objects: &Arc<Mutex<Objects>>, id: &str, now: DateTime<Utc>, permits: usize) -> Self {
        let turns = Turns::new(Arc::clone(objects), permits);
        let ledger = Ledger::new(Arc::clone(&turns) as Arc<dyn StateStore>, "job", "default");
        Self { id: id.to_owned(), turns, ledger, now }
    }

    /// The number of its commit.
    async fn run(&self) -> Result<u64> {
        self.recover().await?;
        self.turns.remember("recovered");
        let attempt = loop {
            match self.ledger.begin(&run(&self.id)).await? {
                Begun::Attempt(attempt) => break attempt,
                Begun::Unpublished => self.recover().await?,
                Begun::NameTaken => panic!("the name {} is new", self.id),
            }
        };
        let mut record = self.ledger.get_run(&run(&self.id).id).await?.unwrap();
        for n in 0..FILES {
            self.turns.remember(("stages", n, attempt.record.claims, format!("{:?}", attempt.bookmarks)));
            attempt.journal.note(staged_files(&self.id)).await?;
            self.turns.put(&format!("lake/.{n}{}", suffix(&self.id)), Bytes::new()).await?;
        }
        attempt.journal.flush().await?;
        let mut bookmarks = attempt.bookmarks.clone();
        bookmarks.insert(self.id.clone(), attempt.record.claims.into());
        let commit = CommitRecord {
            publish: [("out".to_owned(), (0..FILES).map(|n| rename(n, &self.id)).collect())].into(),
            bookmarks,
            ..CommitRecord::new(attempt.record.claims, run(&self.id), self.now)
        };
        self.turns.remember(("commits", commit.sequence, format!("{:?}", commit.bookmarks)));
        if let Err(lost) = self.ledger.commit(&commit).await {
            self.turns.remember("lost");
            record.status = RunStatus::Superseded;
            self.ledger.put_run(&record).await?;
            for action in attempt.journal.noted().await {
                self.discard(&action).await?;
            }
            self.ledger.forget(&run(&self.id).id).await?;
            return Err(lost);
        }
        self.turns.remember(("publishes", commit.sequence));
        let published = self.publish(&commit).await?.published(commit.sequence);
        record.status = if published.is_ok() { RunStatus::Succeeded } else { RunStatus::Abandoned };
        self.ledger.put_run(&record).await?;
        published?;
        self.turns.remember(("cleans up", commit.sequence));
        self.sweep().await?;
        Ok(commit.sequence)
    }

    /// Abandons the newest commit that is not published, as a person does.
    async fn abandon(&self) -> Result<u64> {
        let Some(commit) = self.ledger.pending().await?.pop() else { return Ok(0) };
        self.turns.remember(("abandons", commit.sequence));
        let by = Abandonment { user: self.id.clone(), host: "laptop".to_owned(), at: self.now };
        match self.ledger.abandon(commit.sequence, &by).await {
            Ok(Settlement::Abandoned(_)) => {}
            Ok(Settlement::Published { .. }) => return Ok(0),
            // It had already been published.
            Err(e) if e.kind() == ErrorKind::Usage => return Ok(0),
            Err(e) => return Err(e),
        }
        self.turns.remember("sweeps");
        self.sweep().await?;
        Ok(0)
    }

    async fn recover(&self) -> Result<()> {
        for commit in self.ledger.pending().await? {
            self.publish(&commit).await?;
        }
        self.sweep().await
    }

    async fn publish(&self, commit: &CommitRecord) -> Result<Settlement> {
        for action in commit.actions() {
            let PublishAction::RenameFile { from, to, .. } = &action else { panic!("{action}") };
            let renamed = |objects: &mut Objects| {
                if let Some(file) = objects.remove(from.as_str()) {
                    objects.insert(to.to_string(), file);
                }
                objects.contains_key(to.as_str())
            };
            if !self.turns.turn(renamed).await {
                let settled = self.ledger.settlement(commit.sequence).await?;
                return Ok(settled.unwrap_or_else(|| panic!("{action}: neither is there")));
            }
        }
        self.ledger.mark_published(commit.sequence, &run(&self.id).id).await
    }

    async fn sweep(&self) -> Result<()> {
        for finished in self.ledger.finished().await? {
            for action in &finished.leftovers {
                self.discard(action).await?;
            }
            self.complete_record(&finished).await?;
            match &finished.attempt {
                _ if finished.has_ended(self.now) => self.ledger.forget(&finished.run).await?,
                Some(attempt) if finished.is_new() => self.ledger.mark_swept(attempt, self.now).await?,
                _ => {}
            }
        }
        Ok(())
    }

    async fn complete_record(&self, finished: &Finished) -> Result<()> {
        let Some(mut record) = self.ledger.get_run(&finished.run).await? else { return Ok(()) };
        record.status = match (&finished.end, record.status) {
            (End::Abandoned(_), _) => RunStatus::Abandoned,
            (End::Published(_), RunStatus::Running) => RunStatus::Succeeded,
            (End::Lost, RunStatus::Running) => RunStatus::Killed,
            _ => return Ok(()),
        };
        self.ledger.put_run(&record).await
    }

    async fn discard(&self, action: &DiscardAction) -> Result<()> {
        let DiscardAction::StagedFiles { suffix, .. } = action else { panic!("{action:?}") };
        for key in self.turns.list("lake", None).await?.iter().filter(|key| key.ends_with(suffix.as_str())) {
            self.turns.delete(key).await?;
        }
        Ok(())
    }
}

fn suffix(id: &str) -> String {
    format!(".{id}.staged")
}

fn staged_files(id: &str) -> DiscardAction {
    DiscardAction::StagedFiles { folder: "lake".into(), suffix: suffix(id) }
}

fn rename(n: usize, id: &str) -> PublishAction {
    let (from, to) = (format!("lake/.{n}{}", suffix(id)), format!("lake/{n}-{id}"));
    PublishAction::RenameFile { from: from.into(), to: to.into(), bytes: 0, xxh3: 0 }
}

// --- schedules -----------------------------------------------------------------------------------------------------

type Running = Pin<Box<dyn Future<Output = Result<u64>>>>;

/// Runs in progress.
struct World {
    objects: Arc<Mutex<Objects>>,
    actors: Vec<&'static str>,
    runs: Vec<(Arc<Turns>, Running)>,
    ended: Vec<Option<Result<u64>>>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];
/// A person, not a run.
const PERSON: &str = "x";

impl World {
    /// The state after these steps, each an operation of one run.
    fn after(actors: &[&'static str], schedule: &[usize]) -> Self {
        let objects = Arc::new(Mutex::new(Objects::new()));
        let start = |name: &&str| {
            let process = Process::new(&objects, name, DateTime::UNIX_EPOCH, 0);
            let turns = Arc::clone(&process.turns);
            let running: Running = match *name {
                PERSON => Box::pin(async move { process.abandon().await }),
                _ => Box::pin(async move { process.run().await }),
            };
            (turns, running)
        };
        let runs: Vec<_> = actors.iter().map(start).collect();
        let ended = runs.iter().map(|_| None).collect();
        let mut world = Self { objects, actors: actors.to_vec(), runs, ended };
        schedule.iter().for_each(|run| world.step(*run));
        world
    }

    fn step(&mut self, which: usize) {
        let (turns, running) = &mut self.runs[which];
        turns.permit();
        if let Poll::Ready(end) = running.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            self.ended[which] = Some(end);
        }
    }

    fn going_on(&self) -> Vec<usize> {
        (0..self.runs.len()).filter(|run| self.ended[*run].is_none()).collect()
    }

    /// A hash of what is left when all runs are killed: their memory is lost.
    fn remains(&self) -> u64 {
        let said = |end: &Option<Result<u64>>| end.as_ref().map(|end| end.as_ref().map_err(|e| e.chain()).copied());
        hash(&(&*self.objects.lock().unwrap(), self.ended.iter().map(said).collect::<Vec<_>>()))
    }

    fn state(&self) -> u64 {
        let answers: Vec<u64> = self.runs.iter().map(|(turns, _)| turns.mine.lock().unwrap().answers).collect();
        hash(&(&*self.objects.lock().unwrap(), answers))
    }

    /// Kills all runs, executes another one, and checks the result.
    fn check(&self, schedule: &[usize]) {
        // The killed runs do nothing more.
        let objects = Arc::new(Mutex::new(self.objects.lock().unwrap().clone()));
        for (name, end) in self.actors.iter().zip(&self.ended) {
            if let Some(Err(e)) = end {
                let is_abandoned = e.detail::<Abandonment>().is_some_and(|by| by.user == PERSON);
                assert!(e.kind() == ErrorKind::Conflict || is_abandoned, "{name}: {}\n{schedule:?}", e.chain());
            }
        }
        let alone = |id: &str, now| Process::new(&objects, id, now, usize::MAX);
        let next = alone("next", DateTime::UNIX_EPOCH);
        let number = done(next.run()).unwrap_or_else(|e| panic!("the next run: {}\n{schedule:?}", e.chain()));

        // Everything committed is complete, and nothing else exists.
        let commits: Vec<CommitRecord> = (1..=number).map(|n| done(next.ledger.get(n)).unwrap().unwrap()).collect();
        for (name, end) in self.actors.iter().zip(&self.ended) {
            if let Some(Ok(number @ 1..)) = end {
                let winner = &commits[usize::try_from(*number).unwrap() - 1].run.id;
                assert_eq!(winner.as_str(), *name, "two commits of number {number}\n{schedule:?}");
                assert_eq!(done(next.ledger.abandonment(*number)).unwrap(), None, "{name} has succeeded\n{schedule:?}");
            }
        }
        let files = |id: &str| (0..FILES).map(|n| format!("lake/{n}-{id}")).collect::<Vec<_>>();
        let (mut wanted, mut given_up, mut bookmarks) = (Vec::new(), Vec::new(), BTreeMap::new());
        for commit in &commits {
            let id = commit.run.id.as_str();
            // Bookmarks advance only with published commits.
            let read = BTreeMap::from([(id.to_owned(), serde_json::Value::from(commit.sequence))]);
            let after: BTreeMap<_, _> = bookmarks.clone().into_iter().chain(read).collect();
            assert_eq!(commit.bookmarks, after, "the bookmarks of {id} after\n{schedule:?}");
            match done(next.ledger.settlement(commit.sequence)).unwrap() {
                Some(Settlement::Published { .. }) => {
                    wanted.extend(files(id));
                    bookmarks = after;
                }
                Some(Settlement::Abandoned(_)) => given_up.extend(files(id)),
                None => panic!("commit {} is not settled\n{schedule:?}", commit.sequence),
            }
        }
        assert!(given_up.is_empty() || self.actors.contains(&PERSON), "nobody was there to abandon\n{schedule:?}");
        wanted.sort();
        let mut lake = done(next.turns.list("lake", None)).unwrap();
        // Some files of the abandoned commit may have been published before.
        lake.retain(|file| !given_up.contains(file));
        assert_eq!(lake, wanted, "the lake after\n{schedule:?}");

        // All runs are accounted for; those that may still be alive stay on record for a day.
        let records = done(Ledger::runs(&(Arc::clone(&next.turns) as Arc<dyn StateStore>), "job")).unwrap();
        for record in records {
            assert_ne!(record.status, RunStatus::Running, "run {}\n{schedule:?}", record.run.id);
        }
        let attempts = done(next.ledger.attempts()).unwrap();
        assert!(attempts.iter().all(|attempt| attempt.swept.is_some()), "{attempts:?}\n{schedule:?}");
        done(alone("later", DateTime::UNIX_EPOCH + TimeDelta::hours(25)).recover()).unwrap();
        let left = done(next.turns.list("job/scopes/default/attempts", None)).unwrap();
        assert_eq!(left, [""; 0], "a day after\n{schedule:?}");
    }
}

/// The result of a future that never waits.
fn done<T>(work: impl Future<Output = T>) -> T {
    futures::executor::block_on(work)
}

/// The number of interruptions: each of the races found so far needs two or three.
const INTERRUPTIONS: usize = 3;

#[test]
fn in_every_state_of_two_runs_a_kill_loses_nothing_and_leaves_nothing() {
    let (seen, checked) = go_through(&NAMES[..2]);
    // Tens of thousands of states, some hundred of which differ for later runs.
    assert!(seen > 10_000 && checked > 100, "there are only {seen} and {checked}");
}

#[test]
fn in_every_state_of_a_run_whose_commit_is_abandoned_too() {
    let (seen, checked) = go_through(&[NAMES[0], PERSON]);
    assert!(seen > 500 && checked > 50, "there are only {seen} and {checked}");
}

/// Explores all states of two actors, and checks the result of killing both in each. Returns the number of states, and
/// the number of those that differ for later runs.
fn go_through(actors: &[&'static str]) -> (usize, usize) {
    let (mut seen, mut checked) = (HashSet::new(), HashSet::new());
    let mut next = vec![(vec![0], 0), (vec![1], 0)];
    while let Some((mut schedule, interruptions)) = next.pop() {
        let mut world = World::after(actors, &schedule);
        // Continue with the current run as long as that leads to new states; the other may interrupt at each step.
        while let Some(last) = schedule.last().copied()
            && seen.insert((world.state(), last, interruptions))
        {
            if checked.insert(world.remains()) {
                world.check(&schedule);
            }
            let going_on = world.going_on();
            let other = going_on.iter().copied().find(|run| *run != last);
            if let (true, Some(other), true) = (going_on.contains(&last), other, interruptions < INTERRUPTIONS) {
                next.push((schedule.iter().copied().chain([other]).collect(), interruptions + 1));
            }
            let Some(run) = going_on.iter().copied().find(|run| *run == last).or(other) else { break };
            world.step(run);
            schedule.push(run);
        }
    }
    (seen.len(), checked.len())
}

#[test]
fn in_sampled_states_of_two_and_three_runs_too() {
    let casts = prop::sample::select(vec![&NAMES[..2], &NAMES[..], &["a", "b", PERSON]]);
    let schedules = (casts, prop::collection::vec(0..6_usize, 0..160));
    let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
    let tried = TestRunner::new(config).run(&schedules, |(actors, schedule)| {
        let mut taken = Vec::new();
        let mut world = World::after(actors, &[]);
        for wish in schedule {
            // A run that has ended passes its turn to another.
            let Some(run) = world.going_on().into_iter().cycle().nth(wish) else { break };
            world.step(run);
            taken.push(run);
        }
        world.check(&taken);
        Ok(())
    });
    tried.unwrap();
}
