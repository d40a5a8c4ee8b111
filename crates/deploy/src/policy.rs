//! What a job may do: what its sources, its sinks and its state need, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use hardtack_core::{Error, Location, Result};
use hardtack_runtime::JobDescription;
use serde_json::{Map, Value, json};

use crate::config::Environment;

const READ: [&str; 1] = ["s3:GetObject"];
/// Staged files are uploads in parts; publishing completes them.
const WRITE: [&str; 4] = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"];
const DELETE: &str = "s3:DeleteObject";
/// The mark of places where nothing is replaced.
const APPEND_ONLY: &str = "_append_only";
const READ_TABLES: [&str; 4] = ["glue:GetDatabase", "glue:GetTable", "glue:GetPartitions", "glue:BatchGetPartition"];
const WRITE_TABLES: [&str; 5] = [
    "glue:CreateTable",
    "glue:UpdateTable",
    "glue:BatchCreatePartition",
    "glue:BatchUpdatePartition",
    "glue:BatchDeletePartition",
];

/// An IAM policy. Resources are ARNs in which `${AWS::Partition}`, `${AWS::Region}` and `${AWS::AccountId}` stand for those
/// of the stack.
///
/// Whether it allows a request can be asked, so that a policy is tested against what a job really does:
///
/// ```
/// use hardtack_deploy::{Policy, Request};
///
/// let mut policy = Policy::default();
/// policy.read(&"s3://lake/people".into(), false)?;
/// let get = |object: &str| Request::new("s3:GetObject", format!("arn:${{AWS::Partition}}:s3:::{object}"));
/// assert!(policy.allows(&get("lake/people/1.json")));
/// assert!(!policy.allows(&get("lake/salaries/1.json")));
/// # Ok::<(), hardtack_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The actions on objects, by the pattern of the object.
    objects: BTreeMap<String, BTreeSet<String>>,
    /// The prefixes that may be listed, by bucket.
    listed: BTreeMap<String, BTreeSet<String>>,
    /// The buckets whose open uploads may be listed.
    uploads: BTreeSet<String>,
    /// The actions on databases and tables, by database and table.
    tables: BTreeMap<(String, String), BTreeSet<String>>,
    /// The account whose Glue Data Catalog it is, if it is not that of the stack.
    glue_account: Option<String>,
    kms_key: Option<String>,
}

/// A request to AWS, as IAM judges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The action, for example `s3:GetObject`.
    pub action: String,
    /// The ARN of the resource.
    pub resource: String,
    /// The prefix of a listing of S3.
    pub prefix: Option<String>,
}

impl Request {
    /// A request for an action on a resource.
    pub fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { action: action.into(), resource: resource.into(), prefix: None }
    }

    /// The listing of a bucket below a prefix.
    pub fn list(bucket: &str, prefix: impl Into<String>) -> Self {
        Self { prefix: Some(prefix.into()), ..Self::new("s3:ListBucket", arn(bucket)) }
    }
}

fn arn(bucket_and_key: &str) -> String {
    format!("arn:${{AWS::Partition}}:s3:::{bucket_and_key}")
}

/// A place in S3.
struct Place<'a> {
    bucket: &'a str,
    key: &'a str,
}

impl<'a> Place<'a> {
    /// `None` if the location is not on S3.
    fn of(location: &'a Location) -> Result<Option<Self>> {
        if location.scheme() != Some("s3") {
            return Ok(None);
        }
        let (_, rest) = location.as_str().split_once("://").unwrap_or_default();
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        // IAM and CloudFormation replace what is in braces.
        if rest.contains("${") {
            return Err(Error::usage("a location with `${` cannot be named in a policy").with("location", location));
        }
        Ok(Some(Self { bucket, key: key.trim_matches('/') }))
    }

    /// The object itself, and all below it.
    fn objects(&self) -> Vec<String> {
        match self.key {
            "" => vec![format!("{}/*", self.bucket)],
            key => vec![format!("{}/{key}", self.bucket), format!("{}/{key}/*", self.bucket)],
        }
    }

    fn prefixes(&self) -> Vec<String> {
        match self.key {
            "" => vec!["*".to_owned()],
            key => vec![key.to_owned(), format!("{key}/*")],
        }
    }
}

impl Policy {
    /// What a job needs in an environment: to read its sources, to write its sinks and its state.
    ///
    /// # Errors
    /// Usage for tables without a catalog that outlives a container, and for places that no container has.
    pub fn of(job: &JobDescription, environment: &Environment) -> Result<Self> {
        let at = |error: Error| error.with("job", &job.job.name).with("environment", &environment.name);
        let catalog = environment.catalog.as_deref().unwrap_or("embedded");
        let mut policy = Self { kms_key: environment.kms_key.clone(), ..Self::default() };
        policy.glue_account = catalog.strip_prefix("glue:").map(str::to_owned);
        let is_glue = catalog == "glue" || policy.glue_account.is_some();
        let has_tables =
            job.sources.iter().map(|s| &s.table).chain(job.sinks.iter().map(|s| &s.table)).any(Option::is_some);
        if has_tables && (catalog == "embedded" || catalog.starts_with("embedded:")) {
            return Err(at(Error::usage(
                "the job has tables, but the catalog is a file, which a container does not keep",
            )
            .hint("set `catalog = \"glue\"` in `hardtack.toml`")));
        }
        policy.state(&environment.state.join(&job.job.name)).map_err(at)?;
        for source in &job.sources {
            if let Some(location) = &source.location {
                let read = policy.read(location, source.files_beside);
                read.map_err(|e| at(e.with("source", &source.name)))?;
            }
            if let (Some(table), true) = (&source.table, is_glue) {
                policy.table(table, &READ_TABLES);
            }
        }
        for sink in &job.sinks {
            if let Some(location) = &sink.location {
                let write = policy.write(location, sink.deletes, sink.replaces || sink.deletes);
                write.map_err(|e| at(e.with("sink", &sink.name)))?;
            }
            if let (Some(table), true) = (&sink.table, is_glue) {
                policy.table(table, &READ_TABLES);
                policy.table(table, &WRITE_TABLES);
            }
        }
        Ok(policy)
    }

    /// Allows reading what is at a location, and if `files_beside` the files next to it whose names begin as that.
    ///
    /// # Errors
    /// Usage for a location that is not on S3.
    pub fn read(&mut self, location: &Location, files_beside: bool) -> Result<()> {
        let place = self.allow(location, &READ)?;
        if files_beside && !place.key.is_empty() {
            // Such files are found by listing their folder.
            let folder = place.key.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
            self.listed.entry(place.bucket.to_owned()).or_default().insert(folder);
            self.objects
                .entry(format!("{}/{}.*", place.bucket, place.key))
                .or_default()
                .extend(READ.map(str::to_owned));
        }
        Ok(())
    }

    /// Allows writing at a location, and deleting there if `deletes`. Who `replaces` anything first looks for the mark of
    /// places where nothing is replaced, in the folder and in those above it.
    ///
    /// # Errors
    /// Usage for a location that is not on S3.
    pub fn write(&mut self, location: &Location, deletes: bool, replaces: bool) -> Result<()> {
        let actions: Vec<&str> = WRITE.into_iter().chain(deletes.then_some(DELETE)).collect();
        let place = self.allow(location, &actions)?;
        // What a killed run has begun to upload is found by asking the bucket, which has no condition for a prefix.
        self.uploads.insert(place.bucket.to_owned());
        if replaces {
            let mut folder = place.key;
            while !folder.is_empty() {
                folder = folder.rsplit_once('/').map_or("", |(above, _)| above);
                let slash = if folder.is_empty() { "" } else { "/" };
                let mark = format!("{}/{folder}{slash}{APPEND_ONLY}", place.bucket);
                self.objects.entry(mark).or_default().extend(READ.map(str::to_owned));
            }
        }
        Ok(())
    }

    /// Allows what keeping the state of a job at a location takes.
    ///
    /// # Errors
    /// Usage for a location that is not on S3.
    pub fn state(&mut self, location: &Location) -> Result<()> {
        self.allow(location, &["s3:GetObject", "s3:PutObject", DELETE]).map(drop)
    }

    fn allow<'a>(&mut self, location: &'a Location, actions: &[&str]) -> Result<Place<'a>> {
        let place = Place::of(location)?.ok_or_else(|| {
            Error::usage("a container cannot keep or find anything there")
                .with("location", location)
                .hint("use a location on S3")
        })?;
        for object in place.objects() {
            self.objects.entry(object).or_default().extend(actions.iter().map(|action| (*action).to_owned()));
        }
        self.listed.entry(place.bucket.to_owned()).or_default().extend(place.prefixes());
        Ok(place)
    }

    fn table(&mut self, table: &str, actions: &[&str]) {
        let (database, table) = table.split_once('.').unwrap_or(("default", table));
        let key = (database.to_owned(), table.to_owned());
        self.tables.entry(key).or_default().extend(actions.iter().map(|action| (*action).to_owned()));
    }

    /// Its statements.
    fn statements(&self) -> Vec<Statement> {
        let mut statements = Vec::new();
        // One statement for all objects with the same actions.
        let mut objects: BTreeMap<&BTreeSet<String>, Vec<String>> = BTreeMap::new();
        for (object, actions) in &self.objects {
            objects.entry(actions).or_default().push(arn(object));
        }
        for (bucket, prefixes) in &self.listed {
            statements.push(Statement {
                actions: vec!["s3:ListBucket".to_owned()],
                resources: vec![arn(bucket)],
                prefixes: prefixes.iter().cloned().collect(),
            });
        }
        if !self.uploads.is_empty() {
            statements.push(Statement {
                actions: vec!["s3:ListBucketMultipartUploads".to_owned()],
                resources: self.uploads.iter().map(|bucket| arn(bucket)).collect(),
                prefixes: Vec::new(),
            });
        }
        statements.extend(objects.into_iter().map(|(actions, resources)| Statement {
            actions: actions.iter().cloned().collect(),
            resources,
            prefixes: Vec::new(),
        }));
        let account = self.glue_account.as_deref().unwrap_or("${AWS::AccountId}");
        let glue = |what: &str| format!("arn:${{AWS::Partition}}:glue:${{AWS::Region}}:{account}:{what}");
        let mut tables: BTreeMap<&BTreeSet<String>, BTreeSet<String>> = BTreeMap::new();
        for ((database, table), actions) in &self.tables {
            // Glue asks for the table and for all that it is in.
            let resources =
                [glue("catalog"), glue(&format!("database/{database}")), glue(&format!("table/{database}/{table}"))];
            tables.entry(actions).or_default().extend(resources);
        }
        statements.extend(tables.into_iter().map(|(actions, resources)| Statement {
            actions: actions.iter().cloned().collect(),
            resources: resources.into_iter().collect(),
            prefixes: Vec::new(),
        }));
        if let Some(key) = &self.kms_key {
            statements.push(Statement {
                actions: vec!["kms:Decrypt".to_owned(), "kms:GenerateDataKey".to_owned()],
                resources: vec![key.clone()],
                prefixes: Vec::new(),
            });
        }
        statements
    }

    /// Whether it allows a request.
    pub fn allows(&self, request: &Request) -> bool {
        self.statements().iter().any(|statement| statement.allows(request))
    }

    /// The policy as IAM takes it, with `resource` for each ARN: `Fn::Sub` in a template.
    pub(crate) fn document(&self, resource: impl Fn(&str) -> Value) -> Value {
        let statements: Vec<Value> = self.statements().iter().map(|statement| statement.to_json(&resource)).collect();
        json!({"Version": "2012-10-17", "Statement": statements})
    }

    /// The policy as IAM takes it, but for the placeholders in its ARNs.
    pub fn to_json(&self) -> Value {
        self.document(|arn| arn.into())
    }
}

/// A statement that allows actions on resources.
struct Statement {
    actions: Vec<String>,
    resources: Vec<String>,
    /// What may be listed.
    prefixes: Vec<String>,
}

impl Statement {
    fn allows(&self, request: &Request) -> bool {
        let any = |patterns: &[String], text: &str| patterns.iter().any(|pattern| is_like(pattern, text));
        let prefix = match &request.prefix {
            Some(prefix) if !self.prefixes.is_empty() => any(&self.prefixes, prefix),
            _ => true,
        };
        self.actions.contains(&request.action) && any(&self.resources, &request.resource) && prefix
    }

    fn to_json(&self, resource: &impl Fn(&str) -> Value) -> Value {
        let mut statement = Map::new();
        statement.insert("Effect".to_owned(), "Allow".into());
        statement.insert("Action".to_owned(), self.actions.clone().into());
        let resources: Vec<Value> = self.resources.iter().map(|arn| resource(arn)).collect();
        statement.insert("Resource".to_owned(), resources.into());
        if !self.prefixes.is_empty() {
            // Whether an object is missing may only be known to who may list its bucket, and a request for an object has no
            // prefix.
            let condition = json!({"StringLikeIfExists": {"s3:prefix": self.prefixes}});
            statement.insert("Condition".to_owned(), condition);
        }
        Value::Object(statement)
    }
}

/// Whether a text is like a pattern of IAM: `*` stands for any text, `?` for one character.
fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` is, and how much of the text it stands for.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, until)) => {
                    star = Some((at, until + 1));
                    p = at + 1;
                    t = until + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::is_like;

    #[rstest]
    #[case("a", "a", true)]
    #[case("a", "ab", false)]
    #[case("a/*", "a/", true)]
    #[case("a/*", "a", false)]
    #[case("a*c*", "abcd", true)]
    #[case("a*c", "abcbc", true)]
    #[case("a*c", "abcb", false)]
    #[case("a?c", "abc", true)]
    #[case("a?c", "ac", false)]
    #[case("*", "", true)]
    fn patterns_are_those_of_iam(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(is_like(pattern, text), expected);
    }
}
