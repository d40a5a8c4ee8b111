//! Rules on files: when they were changed, how large they are, and what is in them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeZone as _, Utc};
use datafusion::common::ScalarValue;
use futures::{FutureExt, StreamExt};
use hardtack_core::listing::list_files;
use hardtack_core::{Error, JobContext, Location, Result};
use hardtack_dqdl::{Check, Condition, DateValue, FileMatch, Rule, Size, SizeUnit, StringCondition, StringValue};
use md5::Md5;
use object_store::{ObjectMeta, ObjectStoreExt as _};
use regex::Regex;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::compile::{Compiler, Judgement, Shown};
use crate::condition::{moment, resolved};
use crate::measure::{Quantity, Row};
use crate::query::Query;

/// What a file must be.
enum Wanted {
    Changed(Condition<DateTime<Utc>>),
    Bytes(Condition<u128>),
    /// Its checksum is one of these.
    Checksums(BTreeSet<String>, bool),
    /// Its content is that of another file in this place.
    SameAs(String),
    /// No other file has the same content.
    Unique,
}

impl Compiler<'_> {
    pub(crate) fn files(&mut self, rule: &Rule) -> Result<Judgement, String> {
        let now = self.settings.now();
        let needs = || "it needs the location of its files, such as `\"s3://bucket/folder/\"`".to_owned();
        let (path, wanted, metric) = match &rule.check {
            Check::FileFreshness { path, condition } => {
                let zone = rule.tag("timeZone").unwrap_or("UTC");
                let condition = condition.clone().try_map(|operand| in_zone(operand, zone, now))?;
                (path.as_ref().ok_or_else(needs)?, Wanted::Changed(condition), "FileFreshness.Compliance")
            }
            Check::FileSize { path, condition } => {
                let condition = condition.clone().try_map(|size| Ok::<_, String>(bytes(size)))?;
                (path.as_ref().ok_or_else(needs)?, Wanted::Bytes(condition), "FileSize.Compliance")
            }
            Check::FileUniqueness { path, .. } => {
                (path.as_ref().ok_or_else(needs)?, Wanted::Unique, "FileUniquenessRatio")
            }
            Check::FileMatch(FileMatch::Checksums { path, condition }) => {
                let path = path.as_ref().ok_or_else(needs)?;
                let (list, negated): (Vec<&StringValue>, bool) = match condition {
                    StringCondition::Equal(one) => (vec![one], false),
                    StringCondition::NotEqual(one) => (vec![one], true),
                    StringCondition::In(list) => (list.iter().collect(), false),
                    StringCondition::NotIn(list) => (list.iter().collect(), true),
                    _ => return Err("checksums are compared by `=`, `!=`, `in` and `not in`".to_owned()),
                };
                let texts = list.into_iter().map(|value| match value {
                    StringValue::Text(text) => Ok(text.to_lowercase()),
                    _ => Err("expected a checksum".to_owned()),
                });
                (path, Wanted::Checksums(texts.collect::<Result<_, _>>()?, negated), "FileMatch.Compliance")
            }
            Check::FileMatch(FileMatch::Paths { path, other }) => {
                (path, Wanted::SameAs(other.to_string()), "FileMatch.Compliance")
            }
            _ => return Err("it has no files".to_owned()),
        };
        for tag in &rule.tags {
            let known =
                ["recentFiles", "uriRegex", "timeZone", "hashAlgorithm", "matchFileName", "failFast", "filterOrder"];
            if !known.contains(&tag.name.as_str()) {
                return Err(format!("the tag `{}` means nothing here; tags are {}", tag.name, known.join(", ")));
            }
        }
        let reading = Reading {
            job: self.settings.job.clone(),
            wanted,
            algorithm: rule.tag("hashAlgorithm").unwrap_or("SHA-256").to_uppercase(),
            by_name: rule.tag("matchFileName").is_some_and(|tag| tag == "true"),
            regex: rule.tag("uriRegex").map(|regex| Regex::new(regex).map_err(|e| e.to_string())).transpose()?,
            recent: rule
                .tag("recentFiles")
                .map(|n| n.parse().map_err(|_| "`recentFiles` is a number".to_owned()))
                .transpose()?,
        };
        let path = Location::from(&**path);
        let answer = async move {
            let (values, examples) = match reading.answer(&path).await {
                Ok((files, failed)) => {
                    let numbers = [files as i64, failed.len() as i64].map(|n| ScalarValue::Int64(Some(n)));
                    (Ok(numbers.to_vec()), failed.into_iter().take(5).collect())
                }
                Err(e) => (Err(e.chain()), Vec::new()),
            };
            Ok(Row { values, examples })
        };
        let query = self.add(Query { tap: None, answer: Box::pin(answer) });
        let (files, failed) = (Quantity::Query(query, 0), Quantity::Query(query, 1));
        let metric = format!("Dataset.*.{metric}");
        if let Check::FileUniqueness { condition, .. } = &rule.check {
            let unique = files.clone().minus(failed).over(files);
            return self.judged(metric, unique, condition, true, Some(Shown::Query(query)));
        }
        let threshold =
            rule.threshold.as_ref().map(|threshold| resolved(threshold, self.earlier(&metric))).transpose()?;
        Ok(Judgement::Rows { metric, rows: files, failed, threshold, examples: Some(Shown::Query(query)) })
    }
}

/// A time of the day is today's in a time zone.
fn in_zone(operand: DateValue, zone: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let zone: chrono_tz::Tz = zone.parse().map_err(|_| format!("`{zone}` is no time zone such as `Europe/Zurich`"))?;
    let local = match operand {
        DateValue::Time(time) => now.with_timezone(&zone).date_naive().and_time(time),
        DateValue::Date(date) => date.and_time(chrono::NaiveTime::MIN),
        other => return moment(other, now),
    };
    let at = zone.from_local_datetime(&local).earliest();
    at.map(|at| at.with_timezone(&Utc)).ok_or_else(|| format!("{local} does not exist in {zone}"))
}

/// The grammar does not say how many bytes a kilobyte has: 1024.
fn bytes(size: Size) -> u128 {
    let unit = match size.unit {
        SizeUnit::B => 0,
        SizeUnit::KB => 1,
        SizeUnit::MB => 2,
        SizeUnit::GB => 3,
        SizeUnit::TB => 4,
    };
    u128::from(size.amount) << (10 * unit)
}

fn meets<T: PartialOrd>(condition: &Condition<T>, x: &T) -> bool {
    match condition {
        Condition::Equal(a) => x == a,
        Condition::NotEqual(a) => x != a,
        Condition::GreaterThan(a) => x > a,
        Condition::AtLeast(a) => x >= a,
        Condition::LessThan(a) => x < a,
        Condition::AtMost(a) => x <= a,
        Condition::Between(a, b) => a < x && x < b,
        Condition::NotBetween(a, b) => x <= a || b <= x,
        Condition::In(list) => list.contains(x),
        Condition::NotIn(list) => !list.contains(x),
    }
}

struct Reading {
    job: JobContext,
    wanted: Wanted,
    algorithm: String,
    by_name: bool,
    regex: Option<Regex>,
    recent: Option<usize>,
}

/// A file and where it is.
struct File {
    location: Location,
    meta: ObjectMeta,
}

impl Reading {
    /// The number of files, and those that fail.
    async fn answer(&self, path: &Location) -> Result<(usize, Vec<String>)> {
        let files = self.files(path).await?;
        let failed = match &self.wanted {
            Wanted::Changed(condition) => {
                files.iter().filter(|file| !meets(condition, &file.meta.last_modified)).map(name).collect()
            }
            Wanted::Bytes(condition) => {
                files.iter().filter(|file| !meets(condition, &u128::from(file.meta.size))).map(name).collect()
            }
            Wanted::Checksums(checksums, negated) => {
                let sums = self.checksums(&files).await?;
                let bad = files.iter().zip(sums).filter(|(_, sum)| checksums.contains(sum) == *negated);
                bad.map(|(file, _)| name(file)).collect()
            }
            Wanted::Unique => {
                let sums = self.checksums(&files).await?;
                let mut times: BTreeMap<&String, usize> = BTreeMap::new();
                sums.iter().for_each(|sum| *times.entry(sum).or_default() += 1);
                files.iter().zip(&sums).filter(|(_, sum)| times[sum] > 1).map(|(file, _)| name(file)).collect()
            }
            Wanted::SameAs(other) => {
                let others = self.files(&Location::from(other.as_str())).await?;
                let known: BTreeSet<_> = self.keys(&others).await?.into_iter().collect();
                let ours = self.keys(&files).await?;
                let mut failed: Vec<_> = files
                    .iter()
                    .zip(&ours)
                    .filter(|(_, key)| !known.contains(*key))
                    .map(|(file, _)| name(file))
                    .collect();
                let ours: BTreeSet<_> = ours.into_iter().collect();
                let theirs = self.keys(&others).await?;
                failed.extend(
                    others.iter().zip(&theirs).filter(|(_, key)| !ours.contains(*key)).map(|(file, _)| name(file)),
                );
                failed
            }
        };
        Ok((files.len(), failed))
    }

    /// A file, or all files of a folder.
    async fn files(&self, path: &Location) -> Result<Vec<File>> {
        let (store, at) = self.job.stores().open(path)?;
        let mut metas = match store.objects.head(&at).await {
            Ok(meta) => vec![meta],
            Err(object_store::Error::NotFound { .. }) => {
                list_files(&store.url, store.objects.as_ref(), &at, |_| false).await?
            }
            Err(e) => return Err(Error::from(e).with("location", path)),
        };
        if let Some(regex) = &self.regex {
            metas.retain(|meta| regex.is_match(Location::of(&store.url, &meta.location).as_str()));
        }
        if let Some(recent) = self.recent {
            metas.sort_by_key(|meta| std::cmp::Reverse(meta.last_modified));
            metas.truncate(recent);
        }
        if metas.is_empty() {
            return Err(Error::not_found("there are no files").with("location", path));
        }
        let url = store.url;
        Ok(metas.into_iter().map(|meta| File { location: Location::of(&url, &meta.location), meta }).collect())
    }

    /// By what files are the same.
    async fn keys(&self, files: &[File]) -> Result<Vec<(String, String)>> {
        let sums = self.checksums(files).await?;
        let name = |file: &File| match self.by_name {
            true => file.meta.location.filename().unwrap_or_default().to_owned(),
            false => String::new(),
        };
        Ok(files.iter().zip(sums).map(|(file, sum)| (name(file), sum)).collect())
    }

    async fn checksums(&self, files: &[File]) -> Result<Vec<String>> {
        let mut sums = Vec::with_capacity(files.len());
        // A few at a time, for the requests' sake.
        for some in files.chunks(8) {
            let all = some.iter().map(|file| self.checksum(file).boxed());
            sums.extend(futures::future::try_join_all(all).await?);
        }
        Ok(sums)
    }

    async fn checksum(&self, file: &File) -> Result<String> {
        match self.algorithm.as_str() {
            "MD5" => self.digest::<Md5>(file).await,
            "SHA-1" => self.digest::<Sha1>(file).await,
            "SHA-256" => self.digest::<Sha256>(file).await,
            other => {
                Err(Error::usage(format!("`{other}` is no algorithm of checksums; those are MD5, SHA-1 and SHA-256")))
            }
        }
    }

    async fn digest<D: Digest>(&self, file: &File) -> Result<String> {
        let (store, path) = self.job.stores().open(&file.location)?;
        let mut content = store.objects.get(&path).await?.into_stream();
        let mut digest = D::new();
        while let Some(bytes) = content.next().await.transpose()? {
            digest.update(&bytes);
        }
        Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

fn name(file: &File) -> String {
    file.location.to_string()
}
