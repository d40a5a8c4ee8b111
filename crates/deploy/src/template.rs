//! The infrastructure of an environment as a CloudFormation template.

use std::collections::{BTreeMap, BTreeSet};

use hardtack_core::{Error, Location, Result};
use hardtack_runtime::{JobDefinition, JobDescription};
use serde_json::{Map, Value, json};

use crate::config::{Architecture, Compute, Environment, JobSettings, Pipeline};
use crate::policy::Policy;
use crate::retry::RetryStrategy;
use crate::schedule::hours_between_runs;
use crate::size::{self, DEFAULT_MEMORY_MIB, DEFAULT_VCPUS, check_fargate};
use crate::yaml;

/// After how many seconds a run is ended of a job that says nothing.
const DEFAULT_TIMEOUT: u64 = 3600;
const DEFAULT_ATTEMPTS: u32 = 3;
/// A run is slow if it takes longer than this share of its time-out.
const SLOW: f64 = 0.8;

/// The infrastructure of the jobs of an environment: a queue with its compute environment, and for each job its definition,
/// role, log group, schedule and alarms.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    resources: Map<String, Value>,
    environment: String,
}

impl Template {
    /// The template of an environment with these jobs, each as it describes itself with the arguments that it has there.
    ///
    /// # Errors
    /// Usage for what AWS would refuse later, with the job: containers of a size that Fargate does not have, images without
    /// a version, arguments that are wrong, names that cannot be told apart, tables without a catalog.
    pub fn of(environment: &Environment, jobs: &[JobDescription]) -> Result<Self> {
        let mut jobs: Vec<Deployed<'_>> =
            jobs.iter().map(|job| Deployed::of(environment, job)).collect::<Result<_>>()?;
        jobs.sort_by(|a, b| a.id.cmp(&b.id));
        if let Some(pair) = jobs.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(Error::usage("the names of two jobs differ in characters only that no name in a template has")
                .with("jobs", format!("{}, {}", pair[0].name(), pair[1].name())));
        }
        let mut resources = Resources::default();
        shared(&mut resources, environment);
        for job in &jobs {
            job.add_to(&mut resources)?;
        }
        for (name, pipeline) in &environment.pipelines {
            // A template of some jobs has the pipelines of these only.
            if pipeline.jobs.iter().all(|job| jobs.iter().any(|deployed| deployed.name() == job)) {
                add_pipeline(&mut resources, environment, name, pipeline);
            }
        }
        if jobs.iter().any(|job| job.schedule().is_some())
            || environment.pipelines.values().any(|pipeline| pipeline.schedule.is_some())
            || jobs.iter().any(|job| job.settings.on_arrival.is_some())
        {
            add_starter(&mut resources, &jobs, environment);
        }
        Ok(Self { resources: resources.0, environment: environment.name.clone() })
    }

    /// The template as CloudFormation takes it.
    pub fn to_json(&self) -> Value {
        json!({
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": format!("hardtack jobs of the environment {}", self.environment),
            "Resources": self.resources,
            "Outputs": {
                "JobQueue": {"Description": "Where jobs are submitted to", "Value": {"Ref": "JobQueue"}},
            },
        })
    }

    /// The same as YAML. Equal input gives equal text.
    ///
    /// # Errors
    /// Unexpected if it cannot be written.
    pub fn to_yaml(&self) -> Result<String> {
        yaml::write(&self.to_json())
    }
}

/// The resources of a template, in the order in which they were added.
#[derive(Debug, Default)]
struct Resources(Map<String, Value>);

impl Resources {
    fn add(&mut self, id: impl Into<String>, kind: &str, properties: Value) {
        self.0.insert(id.into(), json!({"Type": kind, "Properties": properties}));
    }
}

fn sub(text: impl Into<String>) -> Value {
    json!({"Fn::Sub": text.into()})
}

fn reference(id: &str) -> Value {
    json!({"Ref": id})
}

fn arn_of(id: &str) -> Value {
    json!({"Fn::GetAtt": [id, "Arn"]})
}

/// A role that a service assumes.
fn trust(service: &str) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sts:AssumeRole",
            // Not on behalf of other accounts.
            "Condition": {"StringEquals": {"aws:SourceAccount": sub("${AWS::AccountId}")}},
        }],
    })
}

fn allow(actions: &[&str], resources: Value) -> Value {
    json!({"Effect": "Allow", "Action": actions, "Resource": resources})
}

fn policy(statements: Vec<Value>) -> Value {
    json!([{"PolicyName": "hardtack", "PolicyDocument": {"Version": "2012-10-17", "Statement": statements}}])
}

/// Tags as most resources have them.
fn tag_list(tags: &BTreeMap<String, String>) -> Value {
    tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}

fn environment_tags(environment: &Environment) -> BTreeMap<String, String> {
    let mut tags = environment.tags.clone();
    tags.insert("hardtack:environment".to_owned(), environment.name.clone());
    tags
}

/// Letters and digits of a name, as names within a template are: `customer_events` is `CustomerEvents`.
fn camel(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| format!("{}{}", word[..1].to_ascii_uppercase(), &word[1..])).collect()
}

/// What all jobs share.
fn shared(resources: &mut Resources, environment: &Environment) {
    let tags = environment_tags(environment);
    let mut compute = Map::new();
    let mut set = |key: &str, value: Value| compute.insert(key.to_owned(), value);
    match environment.compute {
        Compute::Fargate => set("Type", "FARGATE".into()),
        Compute::FargateSpot => set("Type", "FARGATE_SPOT".into()),
        Compute::Ec2Spot => {
            set("Type", "SPOT".into());
            set("AllocationStrategy", "SPOT_PRICE_CAPACITY_OPTIMIZED".into());
            set("MinvCpus", 0.into());
            set(
                "InstanceTypes",
                match environment.architecture {
                    Architecture::X86_64 => json!(["optimal"]),
                    Architecture::Arm64 => json!(["c7g", "m7g", "r7g"]),
                },
            );
            set("InstanceRole", arn_of("InstanceProfile"));
            set("Tags", json!(tags))
        }
    };
    set("MaxvCpus", environment.max_vcpus.into());
    set("Subnets", environment.subnets.clone().into());
    set("SecurityGroupIds", environment.security_groups.clone().into());
    if environment.compute == Compute::Ec2Spot {
        resources.add(
            "InstanceRole",
            "AWS::IAM::Role",
            json!({
                "AssumeRolePolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [{
                        "Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole",
                    }],
                },
                "ManagedPolicyArns":
                    [sub("arn:${AWS::Partition}:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role")],
                "Tags": tag_list(&tags),
            }),
        );
        resources.add("InstanceProfile", "AWS::IAM::InstanceProfile", json!({"Roles": [reference("InstanceRole")]}));
    }
    resources.add(
        "ComputeEnvironment",
        "AWS::Batch::ComputeEnvironment",
        json!({
            "Type": "MANAGED",
            "State": "ENABLED",
            // Updated in place: running jobs go on.
            "ReplaceComputeEnvironment": false,
            "ComputeResources": compute,
            "Tags": tags,
        }),
    );
    resources.add(
        "JobQueue",
        "AWS::Batch::JobQueue",
        json!({
            "State": "ENABLED",
            "Priority": 1,
            "ComputeEnvironmentOrder": [{"Order": 1, "ComputeEnvironment": reference("ComputeEnvironment")}],
            "Tags": tags,
        }),
    );
    add_topic(resources, environment);
}

/// Where alarms go, and the rule that tells of jobs that have failed for good.
fn add_topic(resources: &mut Resources, environment: &Environment) {
    let Some(topic) = topic(environment) else { return };
    if topic == reference("Alarms") {
        let address = environment.notify.as_deref().unwrap_or_default();
        resources.add(
            "Alarms",
            "AWS::SNS::Topic",
            json!({
                "Subscription": [{"Protocol": "email", "Endpoint": address}],
                "Tags": tag_list(&environment_tags(environment)),
            }),
        );
        resources.add(
            "AlarmsPolicy",
            "AWS::SNS::TopicPolicy",
            json!({
                "Topics": [topic.clone()],
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [{
                        "Effect": "Allow",
                        "Principal": {"Service": ["events.amazonaws.com", "cloudwatch.amazonaws.com"]},
                        "Action": "sns:Publish",
                        "Resource": topic.clone(),
                        "Condition": {"StringEquals": {"aws:SourceAccount": sub("${AWS::AccountId}")}},
                    }],
                },
            }),
        );
    }
    resources.add(
        "FailedJobs",
        "AWS::Events::Rule",
        json!({
            "Description": "Tells of jobs that have failed after all attempts",
            "State": "ENABLED",
            "EventPattern": {
                "source": ["aws.batch"],
                "detail-type": ["Batch Job State Change"],
                "detail": {"status": ["FAILED"], "jobQueue": [reference("JobQueue")]},
            },
            "Targets": [{
                "Id": "topic",
                "Arn": topic,
                "InputTransformer": {
                    "InputPathsMap": {
                        "job": "$.detail.jobName", "id": "$.detail.jobId", "reason": "$.detail.statusReason",
                    },
                    "InputTemplate": "\"The job <job> (<id>) has failed: <reason>\"",
                },
            }],
        }),
    );
}

/// The topic that alarms go to.
fn topic(environment: &Environment) -> Option<Value> {
    let notify = environment.notify.as_deref()?;
    Some(if notify.starts_with("arn:") { notify.into() } else { reference("Alarms") })
}

/// A job with its settings in an environment.
struct Deployed<'a> {
    environment: &'a Environment,
    settings: &'a JobSettings,
    definition: &'a JobDefinition,
    /// Its name within the names of its resources.
    id: String,
    version: String,
    image: String,
    command: Vec<String>,
    policy: Policy,
}

impl<'a> Deployed<'a> {
    fn of(environment: &'a Environment, job: &'a JobDescription) -> Result<Self> {
        let name = &job.job.name;
        let at = |error: Error| error.with("job", name).with("environment", &environment.name);
        let settings = environment.settings(name)?;
        job.job.check()?;
        let version = settings.version.clone().or_else(|| job.job.version.clone()).ok_or_else(|| {
            at(Error::usage("the job has no version").hint("begin with `hardtack::job!()` in its function `job()`"))
        })?;
        let image = environment.image_of(name, &version);
        if !environment.image.contains("{version}") && !image.contains("@sha256:") {
            return Err(at(Error::usage("the image has no version, so what runs could change under its name")
                .with("image", image)
                .hint("use `{version}` in `image`, or a digest")));
        }
        let arguments = environment.command_line(name, &job.arguments)?;
        let prefix = match environment.multi_call {
            true => vec!["run".to_owned(), name.clone()],
            false => Vec::new(),
        };
        let deployed = Self {
            environment,
            settings,
            definition: &job.job,
            id: camel(name),
            version,
            image,
            command: prefix.into_iter().chain(arguments).collect(),
            policy: Policy::of(job, environment)?,
        };
        deployed.check().map_err(at)?;
        Ok(deployed)
    }

    fn check(&self) -> Result<()> {
        if self.id.is_empty() || !self.id.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(Error::usage("a name in a template begins with a letter; rename the job"));
        }
        // What the settings say is held to the same as what the job says.
        let effective = JobDefinition {
            schedule: self.schedule().map(str::to_owned),
            timeout_seconds: Some(self.timeout()),
            attempts: Some(self.attempts()),
            vcpus: Some(self.vcpus()),
            memory_mib: Some(self.memory_mib()),
            ..self.definition.clone()
        };
        effective.check()?;
        if self.environment.compute == Compute::Ec2Spot {
            if self.vcpus().fract() != 0.0 {
                return Err(Error::usage("on EC2 a job has whole vCPUs").with("vcpus", self.vcpus()));
            }
        } else {
            check_fargate(self.vcpus(), self.memory_mib(), self.settings.disk_gib)?;
        }
        for (variable, secret) in &self.settings.secrets {
            if !secret.starts_with("arn:") {
                return Err(Error::usage("a secret is named by its ARN")
                    .with("variable", variable)
                    .hint("give the ARN of a secret of Secrets Manager or of a parameter of Systems Manager"));
            }
        }
        Ok(())
    }

    fn name(&self) -> &str {
        &self.definition.name
    }

    /// The name of one of its resources. What it is stands in front, so that two jobs never have the same.
    fn id(&self, what: &str) -> String {
        format!("{what}Of{}", self.id)
    }

    fn schedule(&self) -> Option<&str> {
        let own = self.settings.schedule.as_deref().or(self.definition.schedule.as_deref());
        own.filter(|schedule| *schedule != "none")
    }

    fn timeout(&self) -> u64 {
        self.settings.timeout_seconds.or(self.definition.timeout_seconds).unwrap_or(DEFAULT_TIMEOUT)
    }

    fn attempts(&self) -> u32 {
        self.settings.attempts.or(self.definition.attempts).unwrap_or(DEFAULT_ATTEMPTS)
    }

    fn vcpus(&self) -> f64 {
        self.settings.vcpus.or(self.definition.vcpus).unwrap_or(DEFAULT_VCPUS)
    }

    fn memory_mib(&self) -> u32 {
        self.settings.memory_mib.or(self.definition.memory_mib).unwrap_or(DEFAULT_MEMORY_MIB)
    }

    fn tags(&self) -> BTreeMap<String, String> {
        let mut tags = environment_tags(self.environment);
        tags.extend(self.definition.tags.clone());
        tags.insert("hardtack:job".to_owned(), self.name().to_owned());
        tags.insert("hardtack:version".to_owned(), self.version.clone());
        if let Some(owner) = &self.definition.owner {
            tags.insert("hardtack:owner".to_owned(), owner.clone());
        }
        tags
    }

    fn namespace(&self) -> String {
        format!("hardtack/{}", self.environment.name)
    }

    fn add_to(&self, resources: &mut Resources) -> Result<()> {
        let tags = self.tags();
        resources.add(
            self.id("Logs"),
            "AWS::Logs::LogGroup",
            json!({
                "LogGroupName": format!("/hardtack/{}/{}", self.environment.name, self.name()),
                "RetentionInDays": self.environment.log_retention_days,
                "Tags": tag_list(&tags),
            }),
        );
        resources.add(
            self.id("Role"),
            "AWS::IAM::Role",
            json!({
                "Description": format!("What the job {} may do", self.name()),
                "AssumeRolePolicyDocument": trust("ecs-tasks.amazonaws.com"),
                "Policies": [{"PolicyName": "hardtack", "PolicyDocument": self.policy.document(|arn| sub(arn))}],
                "Tags": tag_list(&tags),
            }),
        );
        resources.add(self.id("StartRole"), "AWS::IAM::Role", self.start_role(&tags));
        resources.add(self.id("Definition"), "AWS::Batch::JobDefinition", self.job_definition(&tags));
        if let Some(schedule) = self.schedule() {
            resources.add(self.id("Schedule"), "AWS::Scheduler::Schedule", self.schedule_of(schedule));
        }
        if let Some(folder) = &self.settings.on_arrival {
            resources.add(self.id("Arrivals"), "AWS::Events::Rule", self.arrivals(folder)?);
        }
        self.add_alarms(resources);
        Ok(())
    }

    /// What starting the container takes: its image, its logs, its secrets.
    fn start_role(&self, tags: &BTreeMap<String, String>) -> Value {
        let mut statements = Vec::new();
        if let Some(repository) = self.repository() {
            let fetch = ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"];
            statements.extend([allow(&["ecr:GetAuthorizationToken"], "*".into()), allow(&fetch, repository)]);
        }
        statements.push(allow(&["logs:CreateLogStream", "logs:PutLogEvents"], arn_of(&self.id("Logs"))));
        let (parameters, secrets): (Vec<&String>, Vec<&String>) =
            self.settings.secrets.values().partition(|secret| secret.contains(":ssm:"));
        // A secret's ARN may end with the key within it.
        let secret = |arn: &&String| arn.split(':').take(7).collect::<Vec<_>>().join(":");
        let mut secrets: Vec<String> = secrets.iter().map(secret).collect();
        secrets.dedup();
        if !secrets.is_empty() {
            statements.push(allow(&["secretsmanager:GetSecretValue"], secrets.into()));
        }
        if !parameters.is_empty() {
            statements.push(allow(&["ssm:GetParameters"], json!(parameters)));
        }
        json!({
            "Description": format!("What starting the job {} takes", self.name()),
            "AssumeRolePolicyDocument": trust("ecs-tasks.amazonaws.com"),
            "Policies": policy(statements),
            "Tags": tag_list(tags),
        })
    }

    /// The ARN of the image's repository, if it is in ECR. An image that is elsewhere is fetched without a role.
    fn repository(&self) -> Option<Value> {
        let (registry, rest) = self.image.split_once('/')?;
        let repository = rest.split(['@', ':']).next()?;
        match registry.split('.').collect::<Vec<_>>().as_slice() {
            [account, "dkr", "ecr", region, ..] => {
                Some(sub(format!("arn:${{AWS::Partition}}:ecr:{region}:{account}:repository/{repository}")))
            }
            _ => None,
        }
    }

    fn job_definition(&self, tags: &BTreeMap<String, String>) -> Value {
        let mut variables = BTreeMap::from([
            ("HARDTACK_LOG_FORMAT", "json".to_owned()),
            ("HARDTACK_METRICS_NAMESPACE", self.namespace()),
            ("HARDTACK_STATE", self.environment.state.to_string()),
        ]);
        if let Some(catalog) = &self.environment.catalog {
            variables.insert("HARDTACK_CATALOG", catalog.clone());
        }
        let variables: Vec<Value> =
            variables.into_iter().map(|(name, value)| json!({"Name": name, "Value": value})).collect();
        let region = self.environment.region.as_ref().map_or_else(|| reference("AWS::Region"), |region| json!(region));
        let mut container = Map::new();
        let mut set = |key: &str, value: Value| container.insert(key.to_owned(), value);
        set("Image", self.image.clone().into());
        set("Command", self.command.clone().into());
        set("Environment", variables.into());
        if !self.settings.secrets.is_empty() {
            let secrets = self.settings.secrets.iter();
            set("Secrets", secrets.map(|(name, arn)| json!({"Name": name, "ValueFrom": arn})).collect());
        }
        set("JobRoleArn", arn_of(&self.id("Role")));
        set("ExecutionRoleArn", arn_of(&self.id("StartRole")));
        set(
            "ResourceRequirements",
            json!([
                {"Type": "VCPU", "Value": size::vcpus_text(self.vcpus())},
                {"Type": "MEMORY", "Value": self.memory_mib().to_string()},
            ]),
        );
        // A run writes to its temporary folder, where queries spill, and nowhere else.
        set("ReadonlyRootFilesystem", true.into());
        set("Volumes", json!([{"Name": "tmp"}]));
        set("MountPoints", json!([{"SourceVolume": "tmp", "ContainerPath": "/tmp", "ReadOnly": false}]));
        set(
            "LogConfiguration",
            json!({
                "LogDriver": "awslogs",
                "Options": {
                    "awslogs-group": reference(&self.id("Logs")),
                    "awslogs-region": region,
                    "awslogs-stream-prefix": self.version,
                },
            }),
        );
        let platform = match self.environment.compute {
            Compute::Ec2Spot => "EC2",
            Compute::Fargate | Compute::FargateSpot => {
                let public = if self.environment.assign_public_ip { "ENABLED" } else { "DISABLED" };
                set("NetworkConfiguration", json!({"AssignPublicIp": public}));
                set("FargatePlatformConfiguration", json!({"PlatformVersion": "LATEST"}));
                let architecture = match self.environment.architecture {
                    Architecture::X86_64 => "X86_64",
                    Architecture::Arm64 => "ARM64",
                };
                let runtime = json!({"CpuArchitecture": architecture, "OperatingSystemFamily": "LINUX"});
                set("RuntimePlatform", runtime);
                if let Some(gib) = self.settings.disk_gib {
                    set("EphemeralStorage", json!({"SizeInGiB": gib}));
                }
                "FARGATE"
            }
        };
        json!({
            "JobDefinitionName": definition_name(self.environment, self.name()),
            "Type": "container",
            "PlatformCapabilities": [platform],
            "ContainerProperties": container,
            "RetryStrategy": RetryStrategy::new(self.attempts()).to_json(),
            "Timeout": {"AttemptDurationSeconds": self.timeout()},
            "PropagateTags": true,
            // Else an update would deregister the revision before, and executions that go on with it would fail.
            "ResourceRetentionPolicy": {"SkipDeregisterOnUpdate": true},
            "Tags": tags,
        })
    }

    fn schedule_of(&self, schedule: &str) -> Value {
        let input = format!(
            r#"{{"JobName":"{}","JobQueue":"${{JobQueue}}","JobDefinition":"${{{}}}"}}"#,
            self.name(),
            self.id("Definition")
        );
        schedule_properties(self.environment, schedule, "batch:submitJob", sub(input))
    }

    fn arrivals(&self, folder: &Location) -> Result<Value> {
        let s3 = folder.as_str().split_once("://").filter(|_| folder.scheme() == Some("s3"));
        let Some((_, place)) = s3 else {
            return Err(Error::usage("objects arrive on S3")
                .with("job", self.name())
                .with("on-arrival", folder)
                .hint("for example `s3://landing/events/`"));
        };
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let mut detail = json!({"bucket": {"name": [bucket]}});
        if !prefix.is_empty() {
            detail["object"] = json!({"key": [{"prefix": prefix}]});
        }
        Ok(json!({
            "Description": format!("Starts the job {} when an object arrives", self.name()),
            "State": "ENABLED",
            "EventPattern": {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": detail},
            "Targets": [{
                "Id": "job",
                "Arn": reference("JobQueue"),
                "RoleArn": arn_of("StarterRole"),
                "BatchParameters": {
                    "JobName": self.name(), "JobDefinition": reference(&self.id("Definition")),
                },
            }],
        }))
    }

    fn add_alarms(&self, resources: &mut Resources) {
        let Some(topic) = topic(self.environment) else { return };
        let alarm = |description: String, metric: &str, more: Value| {
            let mut alarm = json!({
                "AlarmDescription": description,
                "Namespace": self.namespace(),
                "MetricName": metric,
                "Dimensions": [{"Name": "Job", "Value": self.name()}],
                "AlarmActions": [topic],
                "OKActions": [topic],
            });
            if let (Some(alarm), Value::Object(more)) = (alarm.as_object_mut(), more) {
                alarm.extend(more);
            }
            alarm
        };
        let slow = (self.timeout() as f64 * SLOW).round();
        resources.add(
            self.id("Slowness"),
            "AWS::CloudWatch::Alarm",
            alarm(
                format!("{} takes more than {:.0} % of its time-out", self.name(), SLOW * 100.0),
                "Duration",
                json!({
                    "Statistic": "Maximum", "Period": 300, "EvaluationPeriods": 1, "Threshold": slow,
                    "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching",
                }),
            ),
        );
        // One run may be late by as much as it may take.
        let between = self.schedule().and_then(hours_between_runs);
        let late = between.map(|hours| hours + u32::try_from(self.timeout().div_ceil(3600)).unwrap_or(u32::MAX));
        let Some(hours) = self.settings.late_after_hours.or(late).map(|hours| hours.clamp(1, 168)) else { return };
        resources.add(
            self.id("Lateness"),
            "AWS::CloudWatch::Alarm",
            alarm(
                format!("{} has not succeeded for {hours} hours", self.name()),
                "Succeeded",
                json!({
                    "Statistic": "Sum", "Period": 3600, "EvaluationPeriods": hours, "DatapointsToAlarm": hours,
                    "Threshold": 1, "ComparisonOperator": "LessThanThreshold", "TreatMissingData": "breaching",
                }),
            ),
        );
    }
}

/// A schedule of EventBridge that calls an action with this input.
fn schedule_properties(environment: &Environment, schedule: &str, action: &str, input: Value) -> Value {
    json!({
        "ScheduleExpression": schedule,
        "ScheduleExpressionTimezone": environment.timezone.as_deref().unwrap_or("UTC"),
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": "ENABLED",
        "Target": {
            "Arn": sub(format!("arn:${{AWS::Partition}}:scheduler:::aws-sdk:{action}")),
            "RoleArn": arn_of("StarterRole"),
            "Input": input,
        },
    })
}

/// The role that schedules and arrivals start jobs and pipelines with.
fn add_starter(resources: &mut Resources, jobs: &[Deployed<'_>], environment: &Environment) {
    let started: Vec<&Deployed<'_>> =
        jobs.iter().filter(|job| job.schedule().is_some() || job.settings.on_arrival.is_some()).collect();
    let mut statements = Vec::new();
    if !started.is_empty() {
        let definitions = started.iter().map(|job| reference(&job.id("Definition")));
        let resources: Vec<Value> = std::iter::once(reference("JobQueue")).chain(definitions).collect();
        statements.push(allow(&["batch:SubmitJob"], resources.into()));
    }
    let pipelines: Vec<Value> = environment
        .pipelines
        .iter()
        .filter(|(name, pipeline)| pipeline.schedule.is_some() && resources.0.contains_key(&pipeline_id(name)))
        .map(|(name, _)| reference(&pipeline_id(name)))
        .collect();
    if !pipelines.is_empty() {
        statements.push(allow(&["states:StartExecution"], pipelines.into()));
    }
    if statements.is_empty() {
        return;
    }
    let mut trust = trust("scheduler.amazonaws.com");
    trust["Statement"][0]["Principal"]["Service"] = json!(["events.amazonaws.com", "scheduler.amazonaws.com"]);
    resources.add(
        "StarterRole",
        "AWS::IAM::Role",
        json!({
            "Description": "What schedules and arrivals may start",
            "AssumeRolePolicyDocument": trust,
            "Policies": policy(statements),
            "Tags": tag_list(&environment_tags(environment)),
        }),
    );
}

fn definition_name(environment: &Environment, job: &str) -> String {
    format!("{}-{job}", environment.name)
}

fn pipeline_id(name: &str) -> String {
    format!("PipelineOf{}", camel(name))
}

/// A state machine that runs jobs one after another. An execution that has failed goes on from the job that failed by
/// `aws stepfunctions redrive-execution`.
fn add_pipeline(resources: &mut Resources, environment: &Environment, name: &str, pipeline: &Pipeline) {
    let id = pipeline_id(name);
    let id_of = |what: &str| format!("Pipeline{what}Of{}", camel(name));
    let mut states = Map::new();
    let mut substitutions = Map::from_iter([("Queue".to_owned(), reference("JobQueue"))]);
    // A job may be in a pipeline twice.
    let state = |at: usize, job: &str| match pipeline.jobs[..at].contains(&job.to_owned()) {
        true => format!("{job} ({})", at + 1),
        false => job.to_owned(),
    };
    for (at, job) in pipeline.jobs.iter().enumerate() {
        let definition = format!("DefinitionOf{}", camel(job));
        let mut task = json!({
            "Type": "Task",
            "Resource": format!("arn:{}:states:::batch:submitJob.sync", environment.partition()),
            "Parameters": {
                "JobName": job, "JobQueue": "${Queue}", "JobDefinition": format!("${{{definition}}}"),
            },
        });
        match pipeline.jobs.get(at + 1) {
            Some(next) => task["Next"] = state(at + 1, next).into(),
            None => task["End"] = true.into(),
        }
        states.insert(state(at, job), task);
        substitutions.insert(definition.clone(), reference(&definition));
    }
    let first = pipeline.jobs.first().map(String::as_str).unwrap_or_default();
    let definition = json!({
        "Comment": format!("The jobs of the pipeline {name}, one after another"),
        "StartAt": first,
        "States": states,
    });
    // All revisions: an execution, also one that is redriven, submits those that it was started with.
    let definition_arn = |job: &String| {
        let name = definition_name(environment, job);
        sub(format!("arn:${{AWS::Partition}}:batch:${{AWS::Region}}:${{AWS::AccountId}}:job-definition/{name}:*"))
    };
    let jobs: BTreeSet<&String> = pipeline.jobs.iter().collect();
    let submitted: Vec<Value> =
        std::iter::once(reference("JobQueue")).chain(jobs.into_iter().map(definition_arn)).collect();
    resources.add(
        id_of("Role"),
        "AWS::IAM::Role",
        json!({
            "Description": format!("What the pipeline {name} may do"),
            "AssumeRolePolicyDocument": trust("states.amazonaws.com"),
            "Policies": policy(vec![
                allow(&["batch:SubmitJob"], submitted.into()),
                // These have no resources.
                allow(&["batch:DescribeJobs", "batch:TerminateJob"], "*".into()),
                allow(
                    &["events:PutTargets", "events:PutRule", "events:DescribeRule"],
                    sub("arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/StepFunctionsGetEventsForBatchJobsRule"),
                ),
            ]),
            "Tags": tag_list(&environment_tags(environment)),
        }),
    );
    resources.add(
        id.clone(),
        "AWS::StepFunctions::StateMachine",
        json!({
            "StateMachineName": format!("{}-{name}", environment.name),
            "RoleArn": arn_of(&id_of("Role")),
            "Definition": definition,
            "DefinitionSubstitutions": substitutions,
            "Tags": tag_list(&environment_tags(environment)),
        }),
    );
    if let Some(topic) = topic(environment) {
        resources.add(
            id_of("Failures"),
            "AWS::Events::Rule",
            json!({
                "Description": format!("Tells of executions of the pipeline {name} that have failed"),
                "State": "ENABLED",
                "EventPattern": {
                    "source": ["aws.states"],
                    "detail-type": ["Step Functions Execution Status Change"],
                    "detail": {
                        "status": ["FAILED", "TIMED_OUT", "ABORTED"], "stateMachineArn": [reference(&id)],
                    },
                },
                "Targets": [{"Id": "topic", "Arn": topic}],
            }),
        );
    }
    if let Some(schedule) = &pipeline.schedule {
        let input = sub(format!(r#"{{"StateMachineArn":"${{{id}}}"}}"#));
        resources.add(
            id_of("Schedule"),
            "AWS::Scheduler::Schedule",
            schedule_properties(environment, schedule, "sfn:startExecution", input),
        );
    }
}
