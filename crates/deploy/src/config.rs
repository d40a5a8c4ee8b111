//! `hardtack.toml`: where the jobs of a repository run.

use std::collections::BTreeMap;

use hardtack_core::{Error, Location, Result, nearest};
use hardtack_runtime::ArgumentDescription;
use serde::Deserialize;
use toml::{Table, Value};

/// The contents of `hardtack.toml`.
///
/// ```
/// let project = hardtack_deploy::Project::parse(
///     r#"
///     [defaults]                                  # for all environments
///     region = "eu-central-1"
///     image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/{job}:{version}"
///
///     [env.prod]
///     state = "s3://acme-state/hardtack"
///     catalog = "glue"
///     subnets = ["subnet-1", "subnet-2"]
///     security-groups = ["sg-1"]
///     notify = "data-team@example.com"
///     arguments = { target = "s3://acme-lake" }   # of all jobs that have them
///
///     [env.prod.jobs.customer_events]
///     arguments = { source = "s3://acme-landing" }
///     "#,
/// )?;
/// let prod = project.environment("prod")?;
/// assert!(prod.settings("customer_events").is_ok());
/// # Ok::<(), hardtack_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Project {
    environments: BTreeMap<String, Environment>,
}

/// An environment, such as `prod`: an account, or a part of one.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Environment {
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// The region, for example `eu-central-1`; `AWS::Region` of the stack if it is left out.
    #[serde(default)]
    pub region: Option<String>,
    /// The image of a job, with `{job}` and `{version}` in place of these.
    pub image: String,
    /// Whether the image has all jobs: then it is called with `run JOB` first.
    #[serde(default)]
    pub multi_call: bool,
    /// What containers run on.
    #[serde(default)]
    pub compute: Compute,
    /// The processor architecture of the image.
    #[serde(default)]
    pub architecture: Architecture,
    /// The subnets of the containers.
    pub subnets: Vec<String>,
    /// The security groups of the containers.
    pub security_groups: Vec<String>,
    /// Whether containers have public addresses: they must if their subnets have no NAT and no VPC endpoints.
    #[serde(default)]
    pub assign_public_ip: bool,
    /// How many vCPUs all containers together have at most.
    #[serde(default = "max_vcpus")]
    pub max_vcpus: u32,
    /// Where commits and run records are kept: `--state`.
    pub state: Location,
    /// The catalog of the tables: `--catalog`.
    #[serde(default)]
    pub catalog: Option<String>,
    /// How long logs are kept, in days.
    #[serde(default = "log_retention_days")]
    pub log_retention_days: u32,
    /// Who is told of failures: an address, or the ARN of an SNS topic.
    #[serde(default)]
    pub notify: Option<String>,
    /// The KMS key with which the buckets are encrypted.
    #[serde(default)]
    pub kms_key: Option<String>,
    /// The time zone of schedules, for example `Europe/Berlin`; UTC if it is left out.
    #[serde(default)]
    pub timezone: Option<String>,
    /// Arguments of all jobs that have them.
    #[serde(default, rename = "arguments")]
    common: BTreeMap<String, Value>,
    /// Tags of everything.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The jobs that run here.
    #[serde(default)]
    pub jobs: BTreeMap<String, JobSettings>,
    /// Jobs that run one after another.
    #[serde(default)]
    pub pipelines: BTreeMap<String, Pipeline>,
}

/// What is different for a job in an environment. What is left out is as the job says itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct JobSettings {
    /// The version that new runs have. Going back is to name an earlier one.
    #[serde(default)]
    pub version: Option<String>,
    /// Its arguments.
    #[serde(default)]
    arguments: BTreeMap<String, Value>,
    /// Environment variables whose values are secrets: ARNs of Secrets Manager or of parameters of Systems Manager.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// When it runs, as EventBridge says it; `none` for never.
    #[serde(default)]
    pub schedule: Option<String>,
    /// A folder in S3: each object that arrives there starts the job.
    #[serde(default)]
    pub on_arrival: Option<Location>,
    /// After how many hours without a run that has succeeded there is an alarm.
    #[serde(default)]
    pub late_after_hours: Option<u32>,
    /// How many processors it gets.
    #[serde(default)]
    pub vcpus: Option<f64>,
    /// How much memory it gets, in MiB.
    #[serde(default)]
    pub memory_mib: Option<u32>,
    /// How much disk space it gets on Fargate, in GiB: 21 to 200. Otherwise it is 20.
    #[serde(default)]
    pub disk_gib: Option<u32>,
    /// After how many seconds a run is ended.
    #[serde(default)]
    pub timeout_seconds: Option<u64>,
    /// How often a run is started in all.
    #[serde(default)]
    pub attempts: Option<u32>,
}

/// Jobs that run one after another, each after the one before it has succeeded.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pipeline {
    /// Their names, in order.
    pub jobs: Vec<String>,
    /// When they run, as EventBridge says it.
    #[serde(default)]
    pub schedule: Option<String>,
}

/// What containers run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compute {
    /// AWS Fargate.
    #[default]
    Fargate,
    /// Spare capacity of AWS Fargate, at a lower price; runs may be interrupted.
    FargateSpot,
    /// Spare instances of EC2, at a lower price; runs may be interrupted.
    Ec2Spot,
}

/// A processor architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Architecture {
    /// 64-bit x86.
    #[default]
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    #[serde(rename = "arm64")]
    Arm64,
}

fn max_vcpus() -> u32 {
    64
}

fn log_retention_days() -> u32 {
    30
}

/// What CloudWatch Logs takes for a retention.
const RETENTIONS: [u32; 17] = [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827];

impl Project {
    /// Parses `hardtack.toml`. What `[defaults]` has is in all environments that do not say otherwise.
    ///
    /// # Errors
    /// Usage for what is not TOML, with the line; for a key that is not known, a value that is not of its type, and a
    /// retention that CloudWatch Logs does not have.
    pub fn parse(text: &str) -> Result<Self> {
        let mut file: Table = text.parse().map_err(|e: toml::de::Error| unreadable(&e))?;
        let table = |value: Option<Value>, name: &str| match value {
            None => Ok(Table::new()),
            Some(Value::Table(table)) => Ok(table),
            Some(_) => Err(Error::usage(format!("`{name}` is not a table"))),
        };
        let defaults = table(file.remove("defaults"), "defaults")?;
        let environments = table(file.remove("env"), "env")?;
        if let Some(unknown) = file.keys().next() {
            return Err(Error::usage("the file has a key that is not known")
                .with("key", unknown)
                .hint("it has `[defaults]` and `[env.NAME]`"));
        }
        let mut parsed = BTreeMap::new();
        for (name, value) in environments {
            let own = table(Some(value), &format!("env.{name}"))?;
            check_name("environment", &name)?;
            let merged = Value::Table(merged(defaults.clone(), own));
            let environment: Environment =
                merged.try_into().map_err(|e: toml::de::Error| unreadable(&e).with("environment", &name))?;
            let environment = Environment { name: name.clone(), ..environment };
            environment.check()?;
            parsed.insert(name, environment);
        }
        Ok(Self { environments: parsed })
    }

    /// The names of the environments.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.environments.keys().map(String::as_str)
    }

    /// An environment by its name.
    ///
    /// # Errors
    /// Usage if there is none of this name.
    pub fn environment(&self, name: &str) -> Result<&Environment> {
        self.environments.get(name).ok_or_else(|| {
            let error = Error::usage("`hardtack.toml` has no environment of this name").with("environment", name);
            match nearest(name, self.names()) {
                Some(near) => error.with("did you mean", near),
                None => error.with("environments", self.names().collect::<Vec<_>>().join(", ")),
            }
        })
    }
}

fn unreadable(error: &toml::de::Error) -> Error {
    Error::usage("`hardtack.toml` does not parse").because(Error::usage(error.to_string().trim_end()))
}

/// `own`, with what it lacks from `defaults`.
fn merged(mut defaults: Table, own: Table) -> Table {
    for (key, value) in own {
        let value = match (defaults.remove(&key), value) {
            (Some(Value::Table(default)), Value::Table(own)) => Value::Table(merged(default, own)),
            (_, own) => own,
        };
        defaults.insert(key, value);
    }
    defaults
}

/// Names become parts of names of resources.
fn check_name(what: &str, name: &str) -> Result<()> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_fine) && name.len() <= 40 {
        true => Ok(()),
        false => Err(Error::usage(format!("this is not a name for an {what}"))
            .with("name", name)
            .hint("use up to 40 letters, digits, `_` and `-`, with a letter in front")),
    }
}

impl Environment {
    fn check(&self) -> Result<()> {
        let wrong = |what: &str, value: &dyn std::fmt::Display, hint: &str| {
            Err(Error::usage(what.to_owned()).with("environment", &self.name).with("value", value).hint(hint))
        };
        if !RETENTIONS.contains(&self.log_retention_days) {
            let days = RETENTIONS.map(|days| days.to_string()).join(", ");
            return wrong(
                "CloudWatch Logs does not keep logs for so many days: `log-retention-days`",
                &self.log_retention_days,
                &format!("use one of {days}"),
            );
        }
        if self.state.scheme() != Some("s3") {
            return wrong("`state` must be on S3", &self.state, "for example `s3://my-state/hardtack`");
        }
        if self.subnets.is_empty() || self.security_groups.is_empty() {
            return wrong("containers need a network", &"", "name `subnets` and `security-groups`");
        }
        for (name, pipeline) in &self.pipelines {
            check_name("pipeline", name)?;
            for job in &pipeline.jobs {
                self.settings(job).map_err(|e| e.with("pipeline", name))?;
            }
            if pipeline.jobs.is_empty() {
                return wrong("a pipeline has no jobs", name, "list them in `jobs`, in order");
            }
        }
        Ok(())
    }

    /// The settings of a job that runs here.
    ///
    /// # Errors
    /// Usage if it does not.
    pub fn settings(&self, job: &str) -> Result<&JobSettings> {
        self.jobs.get(job).ok_or_else(|| {
            let error = Error::usage("this job does not run in the environment")
                .with("job", job)
                .with("environment", &self.name);
            let error = match nearest(job, self.jobs.keys().map(String::as_str)) {
                Some(near) => error.with("did you mean", near),
                None => error,
            };
            error.hint(format!("add `[env.{}.jobs.{job}]` to `hardtack.toml`; it may be empty", self.name))
        })
    }

    /// The arguments of a job, with those of all jobs, which it may not have.
    fn arguments(&self, job: &str) -> BTreeMap<String, Value> {
        let mut all = self.common.clone();
        if let Some(settings) = self.jobs.get(job) {
            all.extend(settings.arguments.clone());
        }
        all
    }

    /// The words of the command line of a job, without the program: its arguments, of those that it has; of the
    /// environment's common ones those it does not have are left out.
    ///
    /// # Errors
    /// Usage for an argument that the job does not have but that is given for this job, for one that it needs and does not
    /// get, and for values that are neither text, number, boolean nor a list of such.
    pub fn command_line(&self, job: &str, known: &[ArgumentDescription]) -> Result<Vec<String>> {
        let settings = self.settings(job)?;
        let is_known = |name: &str| known.iter().any(|known| known.name == name);
        let at = |error: Error| error.with("job", job).with("environment", &self.name);
        if let Some(unknown) = settings.arguments.keys().find(|name| !is_known(name)) {
            let error = Error::usage("the job has no argument of this name").with("argument", unknown);
            return Err(at(match nearest(unknown, known.iter().map(|known| known.name.as_str())) {
                Some(near) => error.with("did you mean", near),
                None => error,
            }));
        }
        let all = self.arguments(job);
        if let Some(ArgumentDescription { name: missing, .. }) =
            known.iter().find(|known| known.required && !all.contains_key(&known.name))
        {
            return Err(at(Error::usage("the job needs an argument")
                .with("argument", missing)
                .hint(format!("give it in `[env.{}.jobs.{job}]`, under `arguments`", self.name))));
        }
        let mut words = Vec::new();
        for (name, value) in all.iter().filter(|(name, _)| is_known(name)) {
            let values = match value {
                Value::Array(values) => values.as_slice(),
                one => std::slice::from_ref(one),
            };
            for value in values {
                let text = match value {
                    Value::Boolean(true) => None,
                    Value::Boolean(false) => continue,
                    Value::String(text) => Some(text.clone()),
                    Value::Integer(number) => Some(number.to_string()),
                    Value::Float(number) => Some(number.to_string()),
                    Value::Datetime(moment) => Some(moment.to_string()),
                    Value::Array(_) | Value::Table(_) => {
                        return Err(at(Error::usage(
                            "the value of an argument is a text, a number, a boolean or a list of these",
                        )
                        .with("argument", name)));
                    }
                };
                words.push(format!("--{name}"));
                words.extend(text);
            }
        }
        Ok(words)
    }

    /// The partition of AWS that its region is in, for where CloudFormation's own reference to it is not taken.
    pub(crate) fn partition(&self) -> &'static str {
        match self.region.as_deref().unwrap_or_default() {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }

    /// The image of a job.
    pub(crate) fn image_of(&self, job: &str, version: &str) -> String {
        self.image.replace("{job}", job).replace("{version}", version)
    }
}
