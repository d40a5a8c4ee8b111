//! The file of a pipeline.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use hardtack_core::{Error, Result, nearest};
use serde::Deserialize;
use toml::Spanned;

use crate::bookmark::list;
use crate::process::own_option;

/// A pipeline: its jobs in an order in which they can be run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pipeline {
    pub(super) name: String,
    pub(super) jobs: Vec<Job>,
}

/// A job of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) binary: PathBuf,
    pub(super) args: Vec<String>,
    /// The jobs that must have succeeded before: their numbers in the pipeline.
    pub(super) after: Vec<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Spanned<String>,
    /// For all jobs.
    #[serde(default)]
    args: Vec<Spanned<String>>,
    #[serde(default)]
    jobs: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    job: Spanned<String>,
    binary: Option<PathBuf>,
    #[serde(default)]
    args: Vec<Spanned<String>>,
    after: Option<Vec<Spanned<String>>>,
}

/// The text of a file, for errors that name a line.
struct Text<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Text<'_> {
    fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }

    fn wrong(&self, message: impl Into<String>, at: usize) -> Error {
        Error::usage(message).with("file", self.path.display()).with("line", self.line(at))
    }

    fn check_name(&self, name: &Spanned<String>) -> Result<()> {
        match name.get_ref().as_str() {
            "" => Err(self.wrong("a name is empty", name.span().start)),
            // It becomes the name of a file.
            text if text.contains('/') => Err(self
                .wrong(format!("the name `{text}` contains a slash"), name.span().start)
                .hint("give the path of the binary as `binary`")),
            _ => Ok(()),
        }
    }

    fn check_args(&self, args: &[Spanned<String>]) -> Result<()> {
        let own = |arg: &&Spanned<String>| own_option(std::slice::from_ref(arg.get_ref())).is_some();
        match args.iter().find(own) {
            None => Ok(()),
            Some(arg) => {
                let message = format!("`hardtack run` sets `{}` for each job itself", arg.as_ref());
                Err(self.wrong(message, arg.span().start).hint("give it to `hardtack run`, before `--`"))
            }
        }
    }
}

impl Pipeline {
    /// Parses a file.
    ///
    /// # Errors
    /// Usage, with the file and the line, if it does not parse, names a job twice or one that it does not have, or if jobs
    /// wait for each other.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        let of = Text { path, text };
        let file: File = toml::from_str(text).map_err(|e| {
            let message = e.message().split('\n').next().unwrap_or_default();
            of.wrong(format!("the pipeline does not parse: {message}"), e.span().map_or(0, |span| span.start))
        })?;
        of.check_name(&file.name)?;
        of.check_args(&file.args)?;
        if file.jobs.is_empty() {
            return Err(of
                .wrong("the pipeline has no jobs", 0)
                .hint("add one: a line `[[jobs]]`, and below it `job = \"books_data_product\"`"));
        }
        let after = after(&of, &file.jobs)?;
        let order = order(&of, &file.jobs, &after)?;
        // From the number in the file to that in the order.
        let numbers: HashMap<usize, usize> = order.iter().enumerate().map(|(to, from)| (*from, to)).collect();
        let words = |args: &[Spanned<String>]| args.iter().map(|arg| arg.get_ref().clone()).collect::<Vec<_>>();
        let job = |at: &usize| {
            let entry = &file.jobs[*at];
            let name = entry.job.get_ref().clone();
            Job {
                binary: entry.binary.clone().unwrap_or_else(|| PathBuf::from(&name)),
                name,
                args: [words(&entry.args), words(&file.args)].concat(),
                after: after[*at].iter().map(|before| numbers[before]).collect(),
            }
        };
        Ok(Self { name: file.name.get_ref().clone(), jobs: order.iter().map(job).collect() })
    }
}

/// For each job the jobs that it comes after. If no job says so, each comes after the one before it in the file.
fn after(of: &Text<'_>, jobs: &[Entry]) -> Result<Vec<Vec<usize>>> {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, Entry { job, args, .. }) in jobs.iter().enumerate() {
        of.check_name(job)?;
        of.check_args(args)?;
        if let Some(first) = numbers.insert(job.as_ref(), number) {
            let message = format!("the job `{}` is there twice", job.as_ref());
            return Err(of
                .wrong(message, job.span().start)
                .with("first", of.line(jobs[first].job.span().start))
                .hint("its runs would exclude one another: put the second into a pipeline of its own"));
        }
    }
    if jobs.iter().all(|entry| entry.after.is_none()) {
        return Ok((0..jobs.len()).map(|number| number.checked_sub(1).into_iter().collect()).collect());
    }
    let number = |name: &Spanned<String>| {
        numbers.get(name.get_ref().as_str()).copied().ok_or_else(|| {
            let error = of.wrong(format!("the pipeline has no job `{}`", name.as_ref()), name.span().start);
            match nearest(name.as_ref(), numbers.keys().copied()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("its jobs are {}", list(numbers.keys()))),
            }
        })
    };
    jobs.iter().map(|entry| entry.after.iter().flatten().map(number).collect()).collect()
}

/// The numbers of the jobs in an order in which each comes after those that it waits for: as in the file where possible.
fn order(of: &Text<'_>, jobs: &[Entry], after: &[Vec<usize>]) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = Vec::new();
    while order.len() < jobs.len() {
        let is_next = |n: &usize| !order.contains(n) && after[*n].iter().all(|before| order.contains(before));
        match (0..jobs.len()).find(is_next) {
            Some(next) => order.push(next),
            None => return Err(cycle(of, jobs, after, &order)),
        }
    }
    Ok(order)
}

/// The error for jobs that wait for each other. Every job that is left waits for one that is left, too.
fn cycle(of: &Text<'_>, jobs: &[Entry], after: &[Vec<usize>], done: &[usize]) -> Error {
    let waits_for = |n: usize| after[n].iter().copied().find(|before| !done.contains(before));
    let mut path: Vec<usize> = (0..jobs.len()).find(|n| !done.contains(n)).into_iter().collect();
    while let Some(next) = path.last().and_then(|last| waits_for(*last)) {
        if let Some(start) = path.iter().position(|seen| *seen == next) {
            path.drain(..start);
            break;
        }
        path.push(next);
    }
    let first = path.first().copied().unwrap_or_default();
    let names: Vec<String> = path.iter().chain([&first]).map(|n| format!("`{}`", jobs[*n].job.as_ref())).collect();
    of.wrong(format!("jobs wait for each other: {}", names.join(" after ")), jobs[first].job.span().start)
        .hint("remove one of these from an `after`")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn parse(text: &str) -> Result<Pipeline> {
        Pipeline::parse(Path::new("p.toml"), text)
    }

    /// The jobs in order, each with those that it comes after.
    fn order(jobs: &str) -> Vec<String> {
        let pipeline = parse(&format!("name = \"p\"\n{jobs}")).unwrap();
        let name = |number: &usize| pipeline.jobs[*number].name.clone();
        let shown = |job: &Job| format!("{}({})", job.name, job.after.iter().map(name).collect::<Vec<_>>().join(","));
        pipeline.jobs.iter().map(shown).collect()
    }

    #[rstest]
    #[case::order_of_the_file("[[jobs]]\njob='a'\n[[jobs]]\njob='b'\n[[jobs]]\njob='c'", &["a()", "b(a)", "c(b)"])]
    #[case::independent("[[jobs]]\njob='a'\nafter=[]\n[[jobs]]\njob='b'", &["a()", "b()"])]
    #[case::backwards("[[jobs]]\njob='a'\nafter=['b']\n[[jobs]]\njob='b'", &["b()", "a(b)"])]
    #[case::diamond(
        "[[jobs]]\njob='d'\nafter=['b','c']\n[[jobs]]\njob='c'\nafter=['a']\n[[jobs]]\njob='b'\nafter=['a']\n[[jobs]]\njob='a'",
        &["a()", "c(a)", "b(a)", "d(b,c)"]
    )]
    fn jobs_come_after_those_that_they_wait_for(#[case] jobs: &str, #[case] wanted: &[&str]) {
        assert_eq!(order(jobs), wanted);
    }

    #[test]
    fn a_job_has_a_binary_and_arguments() {
        let text = "name = 'p'\nargs = ['--all']\n[[jobs]]\njob = 'a'\nbinary = 'bin/x'\nargs = ['run', 'a']\n[[jobs]]\njob = 'b'";
        let [a, b] = parse(text).unwrap().jobs.try_into().unwrap();
        assert_eq!((a.binary.to_str(), a.args.join(" ")), (Some("bin/x"), "run a --all".to_owned()));
        assert_eq!((b.binary.to_str(), b.args.join(" ")), (Some("b"), "--all".to_owned()));
    }

    #[rstest]
    #[case::no_toml("name = ", "line: 1")]
    #[case::no_name("[[jobs]]\njob = 'a'", "missing field `name`")]
    #[case::empty_name("name = ''\n[[jobs]]\njob = 'a'", "a name is empty (file: p.toml, line: 1)")]
    #[case::unknown_field("name = 'p'\n[[jobs]]\njob = 'a'\nargz = []", "unknown field `argz`")]
    #[case::its_line("name = 'p'\n[[jobs]]\njob = 'a'\nargz = []", "line: 4")]
    #[case::no_jobs("name = 'p'", "the pipeline has no jobs (file: p.toml, line: 1")]
    #[case::a_path("name = 'p'\n[[jobs]]\njob = '../a'", "the name `../a` contains a slash (file: p.toml, line: 3")]
    #[case::twice(
        "name = 'p'\n[[jobs]]\njob = 'a'\n[[jobs]]\njob = 'a'",
        "the job `a` is there twice (file: p.toml, line: 5, first: 3"
    )]
    #[case::unknown(
        "name = 'p'\n[[jobs]]\njob = 'people'\n[[jobs]]\njob = 'b'\nafter = [\n  'peeple',\n]",
        "the pipeline has no job `peeple` (file: p.toml, line: 7, hint: did you mean `people`?)"
    )]
    #[case::itself(
        "name = 'p'\n[[jobs]]\njob = 'a'\nafter = ['a']",
        "jobs wait for each other: `a` after `a` (file: p.toml, line: 3"
    )]
    #[case::cycle(
        "name = 'p'\n[[jobs]]\njob = 'x'\nafter = ['b']\n[[jobs]]\njob = 'a'\nafter = ['b']\n[[jobs]]\njob = 'b'\nafter = ['a']",
        "jobs wait for each other: `b` after `a` after `b` (file: p.toml, line: 9"
    )]
    #[case::own_option(
        "name = 'p'\n[[jobs]]\njob = 'a'\nargs = [\n  '--scope=x',\n]",
        "`hardtack run` sets `--scope=x` for each job itself (file: p.toml, line: 5"
    )]
    fn a_file_that_is_wrong_is_refused_with_its_line(#[case] text: &str, #[case] said: &str) {
        let error = parse(text).unwrap_err();
        assert!(error.kind() == hardtack_core::ErrorKind::Usage && error.to_string().contains(said), "{error}");
    }
}
