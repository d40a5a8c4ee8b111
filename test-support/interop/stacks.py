"""Deploys the templates of `hardtack deploy` to LocalStack's CloudFormation, and asks its services what they have become.

    stacks.py FOLDER_OF_TEMPLATES

deploy.py leaves there `NAME.yaml` for each environment, and `NAME-next.yaml`, in which a job has another version. LocalStack
is a container that this script starts, and that ends with it. A finding is printed, and the exit code is 1.

LocalStack is not AWS. What this test does not ask of it, or asks another way:

- It has no Batch. Such resources are deployed as nothing, and a reference to one is `unknown`, which IAM refuses in a policy.
  So they get other names here, and parameters with theirs have the ARNs that Batch would give.
- Log groups get no retention and no tags, and state machines no tags. deploy.py asks moto for the retention.
- Of what a new template changes it only updates state machines. The rest it calls updated, and keeps as it was.
- It parses state machines with a grammar of its own, a second opinion beside cfn-lint's schema. Whether a state that is named
  exists it does not ask before it gets there, so pipelines are run, with answers of Batch that are made up.
- It starts nothing by schedules, nor jobs by events.
- It lets everybody do everything. What policies allow is tested by `the_policy_of_a_job_allows_what_it_does_on_s3`, in Rust.
"""

import copy
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import ClientError

from deploy import REGION, client, expect, findings

IMAGE = "localstack/localstack:4.14.0"  # as in test-support/src/containers.rs
SERVICES = "cloudformation,cloudwatch,events,iam,logs,scheduler,sns,sqs,stepfunctions,sts"
ACCOUNT = "000000000000"

Template = dict[str, Any]


@contextmanager
def localstack(mocks: Path, log: Path) -> Iterator[str]:
    """Its endpoint. The container ends with this process, however that ends."""
    name = f"hardtack-stacks-{os.getpid()}"
    variables = {
        "SERVICES": SERVICES,
        # The default, which it says will change.
        "CFN_IGNORE_UNSUPPORTED_RESOURCE_TYPES": "1",
        "SFN_MOCK_CONFIG": "/mocks.json",
        # Keeps the public image from accessing the internet.
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
    }
    words = ["docker", "run", "--rm", "--name", name, "--publish", "127.0.0.1::4566"]
    words += ["--volume", f"{mocks}:/mocks.json:ro"]
    words += [word for key, value in variables.items() for word in ["--env", f"{key}={value}"]]
    libc = ctypes.CDLL(None)
    with log.open("w") as output:
        container = subprocess.Popen(
            [*words, IMAGE],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: libc.prctl(1, signal.SIGTERM),  # PR_SET_PDEATHSIG; docker passes it on to the container
        )
    try:
        # Docker may have to pull the image.
        wait(lambda: container.poll() is not None or "Ready." in log.read_text(), "LocalStack is ready", 600)
        if container.poll() is not None:
            sys.exit(f"LocalStack does not start:\n{log.read_text()}")
        port = subprocess.run(["docker", "port", name, "4566"], capture_output=True, text=True, check=True).stdout
        yield f"http://{port.split()[0]}"
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)
        container.wait()


def wait(fine: Callable[[], bool], what: str, seconds: int = 60) -> None:
    end = time.monotonic() + seconds
    while not fine():
        if time.monotonic() > end:
            sys.exit(f"not after {seconds} s: {what}")
        time.sleep(0.1)


def read(path: Path, before: Template | None = None) -> Template:
    """A template in which parameters stand for what Batch would make. A definition that is not as before has revision 2."""
    template: Template = yaml.safe_load(path.read_text())
    resources, parameters = template["Resources"], template.setdefault("Parameters", {})
    for name in [name for name, resource in resources.items() if resource["Type"].startswith("AWS::Batch::")]:
        resource = resources.pop(name)
        match resource["Type"].rsplit("::", 1)[-1]:
            case "JobDefinition":
                revision = 1 if before is None or before["Resources"][f"Batch{name}"] == resource else 2
                arn = f"job-definition/{resource['Properties']['JobDefinitionName']}:{revision}"
            case "JobQueue":
                arn = "job-queue/the-queue"
            case _:
                arn = "compute-environment/the-environment"
        resources[f"Batch{name}"] = resource
        parameters[name] = {"Type": "String", "Default": f"arn:aws:batch:{REGION}:{ACCOUNT}:{arn}"}
    return template


def names_in(template: Template, physical: dict[str, str]) -> dict[str, str]:
    """What `Ref`, `Fn::GetAtt` and `Fn::Sub` can name, if resources have these physical ids."""
    names = {"AWS::Partition": "aws", "AWS::Region": REGION, "AWS::AccountId": ACCOUNT} | physical
    names |= {name: parameter["Default"] for name, parameter in template["Parameters"].items()}
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::IAM::Role":
            names[f"{name}.Arn"] = f"arn:aws:iam::{ACCOUNT}:role/{physical[name]}"
        if resource["Type"] == "AWS::Logs::LogGroup":
            names[f"{name}.Arn"] = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{physical[name]}:*"
    return names


def resolved(value: Any, names: dict[str, str]) -> Any:
    match value:
        case {"Ref": name}:
            return names[name]
        case {"Fn::GetAtt": [name, attribute]}:
            return names[f"{name}.{attribute}"]
        case {"Fn::Sub": text}:
            return re.sub(r"\$\{([^}]+)\}", lambda found: names[found[1]], text)
        case dict():
            return {key: resolved(inner, names) for key, inner in value.items()}
        case list():
            return [resolved(inner, names) for inner in value]
    return value


def wanted(template: Template, names: dict[str, str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """The type and the properties of all resources that LocalStack deploys, as far as it does."""
    found = {}
    for name, resource in template["Resources"].items():
        kind = resource["Type"]
        if kind.startswith("AWS::Batch::"):
            continue
        properties = resolved(resource["Properties"], names)
        if kind == "AWS::Logs::LogGroup":
            properties = {"LogGroupName": properties["LogGroupName"]}
        if kind == "AWS::StepFunctions::StateMachine":
            text = json.dumps(properties["Definition"])
            for key, value in properties.pop("DefinitionSubstitutions").items():
                text = text.replace(f"${{{key}}}", value)
            properties["Definition"] = json.loads(text)
            del properties["Tags"]
        found[name] = (kind, properties)
    return found


class Services:
    def __init__(self, endpoint: str) -> None:
        self.cloudformation = client("cloudformation", endpoint)
        self.cloudwatch = client("cloudwatch", endpoint)
        self.events = client("events", endpoint)
        self.iam = client("iam", endpoint)
        self.logs = client("logs", endpoint)
        self.scheduler = client("scheduler", endpoint)
        self.sns = client("sns", endpoint)
        self.sqs = client("sqs", endpoint)
        self.stepfunctions = client("stepfunctions", endpoint)

    def properties(self, kind: str, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """The properties of what a stack has made, as a template has them, from the service whose it is."""
        match kind:
            case "AWS::IAM::Role":
                role = self.iam.get_role(RoleName=name)["Role"]
                role["Policies"] = [
                    {"PolicyName": policy, "PolicyDocument": document["PolicyDocument"]}
                    for policy in self.iam.list_role_policies(RoleName=name)["PolicyNames"]
                    for document in [self.iam.get_role_policy(RoleName=name, PolicyName=policy)]
                ]
                attached = self.iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
                expect(attached == [], f"{name} has only policies of its own: {attached}")
                return role
            case "AWS::Logs::LogGroup":
                [group] = self.logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
                return {"LogGroupName": group["logGroupName"]}
            case "AWS::SNS::Topic":
                subscriptions = self.sns.list_subscriptions_by_topic(TopicArn=name)["Subscriptions"]
                return {
                    "Subscription": [{key: one[key] for key in ["Protocol", "Endpoint"]} for one in subscriptions],
                    "Tags": self.sns.list_tags_for_resource(ResourceArn=name)["Tags"],
                }
            case "AWS::SNS::TopicPolicy":
                [topic] = wanted["Topics"]
                attributes = self.sns.get_topic_attributes(TopicArn=topic)["Attributes"]
                return {"Topics": [topic], "PolicyDocument": json.loads(attributes["Policy"])}
            case "AWS::Events::Rule":
                rule = self.events.describe_rule(Name=name)
                targets = self.events.list_targets_by_rule(Rule=name)["Targets"]
                return rule | {"EventPattern": json.loads(rule["EventPattern"]), "Targets": targets}
            case "AWS::Scheduler::Schedule":
                schedule = self.scheduler.get_schedule(Name=name)
                # What AWS adds, too: how often a call is repeated that fails.
                del schedule["Target"]["RetryPolicy"]
                return schedule
            case "AWS::CloudWatch::Alarm":
                [alarm] = self.cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
                return alarm
            case "AWS::StepFunctions::StateMachine":
                machine = self.stepfunctions.describe_state_machine(stateMachineArn=name)
                return {
                    "StateMachineName": machine["name"],
                    "RoleArn": machine["roleArn"],
                    "Definition": json.loads(machine["definition"]),
                }
        sys.exit(f"templates have {kind} now: say here how to ask for one")

    def left(self) -> list[str]:
        """All there is of the kinds of things that stacks make."""
        return [
            *(role["RoleName"] for role in self.iam.list_roles()["Roles"]),
            *(group["logGroupName"] for group in self.logs.describe_log_groups()["logGroups"]),
            *(topic["TopicArn"] for topic in self.sns.list_topics()["Topics"]),
            *(rule["Name"] for rule in self.events.list_rules()["Rules"]),
            *(schedule["Name"] for schedule in self.scheduler.list_schedules()["Schedules"]),
            *(alarm["AlarmName"] for alarm in self.cloudwatch.describe_alarms()["MetricAlarms"]),
            *(machine["name"] for machine in self.stepfunctions.list_state_machines()["stateMachines"]),
        ]


def reaches(services: Services, stack: str, status: str) -> None:
    """A stack without it would make all else fail, so this ends the script if it gets another one."""

    def now() -> dict[str, Any]:
        # By its id, by which a deleted one is found, too.
        return dict(services.cloudformation.describe_stacks(StackName=stack)["Stacks"][0])

    def failed() -> bool:
        return any(bad in now()["StackStatus"] for bad in ["FAILED", "ROLLBACK"])

    wait(lambda: now()["StackStatus"] == status or failed(), f"{stack} is {status}")
    if failed():
        reasons = [now().get("StackStatusReason", "")]
        for event in services.cloudformation.describe_stack_events(StackName=stack)["StackEvents"]:
            reasons.append(f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}")
        sys.exit(f"{stack} is {now()['StackStatus']} and not {status}:\n" + "\n".join(reasons))


def physical_ids(services: Services, stack: str) -> dict[str, str]:
    resources = services.cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
    return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}


def expect_deployed(services: Services, template: Template, physical: dict[str, str], kinds: str = "") -> None:
    for name, (kind, properties) in wanted(template, names_in(template, physical)).items():
        if kinds in kind:
            there = services.properties(kind, physical[name], properties)
            for key, value in properties.items():
                expect(there.get(key) == value, f"{name} has the {key}\n{value}\nand not\n{there.get(key)}")


def change_set(services: Services, stack: str, template: Template) -> dict[str, Any]:
    services.cloudformation.create_change_set(
        StackName=stack,
        ChangeSetName="next",
        ChangeSetType="UPDATE",
        TemplateBody=json.dumps(template),
        Capabilities=["CAPABILITY_IAM"],
    )

    def described() -> dict[str, Any]:
        return dict(services.cloudformation.describe_change_set(StackName=stack, ChangeSetName="next"))

    wait(lambda: described()["Status"] in ["CREATE_COMPLETE", "FAILED"], "the change set is made")
    return described()


def check_environment(name: str, folder: Path, services: Services) -> None:
    begun = time.monotonic()
    before = read(folder / f"{name}.yaml")
    after = read(folder / f"{name}-next.yaml", before)
    expect(services.left() == [], f"there is nothing before {name}: {services.left()}")

    stack = services.cloudformation.create_stack(
        StackName=name, TemplateBody=json.dumps(before), Capabilities=["CAPABILITY_IAM"]
    )["StackId"]
    reaches(services, stack, "CREATE_COMPLETE")
    physical = physical_ids(services, stack)
    expect(physical.keys() == before["Resources"].keys(), f"all resources of {name} are deployed: {sorted(physical)}")
    ignored = sorted(key for key, value in physical.items() if value == "unknown")
    batch = sorted(key for key, resource in before["Resources"].items() if resource["Type"].startswith("AWS::Batch::"))
    expect(ignored == batch, f"nothing but Batch is ignored: {ignored}")
    expect_deployed(services, before, physical)
    kinds = [resource["Type"] for resource in before["Resources"].values()]
    check_pipelines(services, before, physical)
    check_arrivals(services, before, physical)
    if "AWS::SNS::Topic" in kinds:
        check_messages(services, before, physical)

    same = change_set(services, stack, before)
    expect(same["Status"] == "FAILED" and "contain changes" in same["StatusReason"], f"nothing changes twice: {same}")
    services.cloudformation.delete_change_set(StackName=stack, ChangeSetName="next")

    # A new version changes what is the job's, and what names the revision of its definition; nothing is replaced.
    changes = [change["ResourceChange"] for change in change_set(services, stack, after)["Changes"]]
    was, will = (
        {key: resolved(resource, names_in(template, physical)) for key, resource in template["Resources"].items()}
        for template in [before, after]
    )
    changed = sorted(key for key in will if will[key] != was[key])
    expect(len(changed) >= 4, f"a definition, two roles and a log group change: {changed}")
    expect(sorted(change["LogicalResourceId"] for change in changes) == changed, f"{changed} change, not {changes}")
    replaced = [change for change in changes if change["Action"] != "Modify" or change.get("Replacement") != "False"]
    expect(replaced == [], f"nothing is replaced: {replaced}")
    services.cloudformation.execute_change_set(StackName=stack, ChangeSetName="next")
    reaches(services, stack, "UPDATE_COMPLETE")
    expect(physical_ids(services, stack) == physical, "all resources are the same after an update")
    expect_deployed(services, after, physical, "StateMachine")

    services.cloudformation.delete_stack(StackName=stack)
    reaches(services, stack, "DELETE_COMPLETE")
    expect(services.left() == [], f"nothing is left of {name}: {services.left()}")
    print(f"{name}: {len(kinds)} resources in LocalStack, {len(changed)} updated, in {time.monotonic() - begun:.1f} s")


# What is no state machine, and what LocalStack must say so of.
BROKEN: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {
    "no first state": lambda machine, state: machine.pop("StartAt"),
    "a state of no type": lambda machine, state: state.update(Type="Job"),
    "a field that states do not have": lambda machine, state: state.update(Then="next"),
    "an action that Batch does not have": lambda machine, state: state.update(
        Resource=state["Resource"].replace("submitJob", "submitTask")
    ),
    "an end that goes on": lambda machine, state: state.update(Next="next", End=True),
}


def cases(template: Template) -> dict[str, Any]:
    """For each pipeline of a template: all jobs succeed, or the first one fails."""
    machines = {}
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::StepFunctions::StateMachine":
            definition = resource["Properties"]["Definition"]
            good = dict.fromkeys(definition["States"], "succeeds")
            machines[resource["Properties"]["StateMachineName"]] = {
                "TestCases": {"good": good, "bad": good | {definition["StartAt"]: "fails"}}
            }
    return machines


ANSWERS = {
    "succeeds": {"0": {"Return": {"JobId": "1", "Status": "SUCCEEDED"}}},
    "fails": {"0": {"Throw": {"Error": "States.TaskFailed", "Cause": "Essential container in task exited"}}},
}


def check_pipelines(services: Services, template: Template, physical: dict[str, str]) -> None:
    for name, (kind, properties) in wanted(template, names_in(template, physical)).items():
        if kind != "AWS::StepFunctions::StateMachine":
            continue
        definition = properties["Definition"]
        judged = services.stepfunctions.validate_state_machine_definition(definition=json.dumps(definition))
        expect(judged["result"] == "OK", f"{name} is a state machine: {judged['diagnostics']}")
        for fault, change in BROKEN.items():
            broken = copy.deepcopy(definition)
            change(broken, broken["States"][broken["StartAt"]])
            judged = services.stepfunctions.validate_state_machine_definition(definition=json.dumps(broken))
            expect(judged["result"] == "FAIL", f"a definition is refused that has {fault}")
            try:
                services.stepfunctions.create_state_machine(
                    name="broken", definition=json.dumps(broken), roleArn=properties["RoleArn"]
                )
                expect(False, f"no state machine is made that has {fault}")
            except ClientError as error:
                expect(error.response["Error"]["Code"] == "InvalidDefinition", f"{fault}: {error}")

        # One after another, each as it is called here, until one fails.
        submitted, state = [], definition["StartAt"]
        while state in definition["States"]:
            submitted.append(definition["States"][state]["Parameters"])
            state = definition["States"][state].get("Next")
        expect(len(submitted) == len(definition["States"]), f"each job of {name} has its turn: {submitted}")
        for case, status, jobs in [("good", "SUCCEEDED", submitted), ("bad", "FAILED", submitted[:1])]:
            run = services.stepfunctions.start_execution(stateMachineArn=f"{physical[name]}#{case}")["executionArn"]

            def now(run: str = run) -> str:
                return str(services.stepfunctions.describe_execution(executionArn=run)["status"])

            wait(lambda now=now: now() != "RUNNING", f"{name} ends")
            expect(now() == status, f"{name} has {status} if Batch is {case}: {now()}")
            events = services.stepfunctions.get_execution_history(executionArn=run)["events"]
            calls = [event["taskScheduledEventDetails"] for event in events if event["type"] == "TaskScheduled"]
            called = [json.loads(call["parameters"]) for call in calls]
            called = [{key: call.get(key) for key in submitted[0]} for call in called]
            expect(called == jobs, f"{name} submits\n{jobs}\nif Batch is {case}, and not\n{called}")


def check_arrivals(services: Services, template: Template, physical: dict[str, str]) -> None:
    """Rules for what arrives on S3 match objects in the folder of hardtack.toml, and not in the one next to it."""
    for name, (kind, properties) in wanted(template, names_in(template, physical)).items():
        if kind != "AWS::Events::Rule" or properties["EventPattern"]["source"] != ["aws.s3"]:
            continue
        pattern = services.events.describe_rule(Name=physical[name])["EventPattern"]
        for key, fine in [("customer_events/a/1.csv", True), ("customer_events_old/1.csv", False)]:
            event = {
                "id": "1",
                "account": ACCOUNT,
                "region": REGION,
                "time": "2030-01-01T00:00:00Z",
                "source": "aws.s3",
                "detail-type": "Object Created",
                "resources": [],
                "detail": {"bucket": {"name": "example-landing"}, "object": {"key": key}},
            }
            matches = services.events.test_event_pattern(EventPattern=pattern, Event=json.dumps(event))["Result"]
            expect(matches == fine, f"{name} matches {key}: {matches}")


def check_messages(services: Services, template: Template, physical: dict[str, str]) -> None:
    """Failures of jobs and pipelines reach the topic, and alarms do; other events do not."""
    names, topic = names_in(template, physical), physical["Alarms"]
    queue = services.sqs.create_queue(QueueName="mailbox")["QueueUrl"]
    attributes = services.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    subscription = services.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=attributes["QueueArn"])

    def told(what: str) -> list[str]:
        """The messages, with their subjects, until one contains this text."""
        messages: list[str] = []

        def more() -> bool:
            received = services.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in received.get("Messages", []):
                body = json.loads(message["Body"])
                messages.append(f"{body.get('Subject')}: {body['Message']}")
                services.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            return any(what in message for message in messages)

        wait(more, f"a message says `{what}`")
        return messages

    def happens(source: str, kind: str, detail: dict[str, str]) -> None:
        entry = {"Source": source, "DetailType": kind, "Detail": json.dumps(detail)}
        services.events.put_events(Entries=[entry])

    batch = {"jobId": "4711", "jobQueue": names["JobQueue"], "statusReason": "it was killed"}
    change = "Batch Job State Change"
    happens("aws.batch", change, batch | {"jobName": "succeeded", "status": "SUCCEEDED"})
    happens("aws.batch", change, batch | {"jobName": "elsewhere", "status": "FAILED", "jobQueue": "other"})
    happens("aws.batch", change, batch | {"jobName": "failed", "status": "FAILED"})
    messages = told("The job failed (4711) has failed: it was killed")
    expect(not any("succeeded" in text or "elsewhere" in text for text in messages), f"of no other job: {messages}")

    for name, (kind, properties) in wanted(template, names).items():
        if kind == "AWS::CloudWatch::Alarm":
            services.cloudwatch.set_alarm_state(AlarmName=physical[name], StateValue="OK", StateReason="a test")
            services.cloudwatch.set_alarm_state(AlarmName=physical[name], StateValue="ALARM", StateReason="a test")
            told(f'ALARM: "{physical[name]}"')
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::StepFunctions::StateMachine":
            happens(
                "aws.states",
                "Step Functions Execution Status Change",
                {"status": "FAILED", "stateMachineArn": physical[name], "name": "of a pipeline"},
            )
            told("of a pipeline")
    services.sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    services.sqs.delete_queue(QueueUrl=queue)


def main() -> int:
    begun = time.monotonic()
    folder = Path(sys.argv[1])
    environments = sorted(path.name.removesuffix("-next.yaml") for path in folder.glob("*-next.yaml"))
    expect(environments != [], f"there are templates in {folder}")
    with tempfile.TemporaryDirectory() as temporary:
        mocks, log = Path(temporary) / "mocks.json", Path(temporary) / "localstack.log"
        machines = {}
        for environment in environments:
            machines |= cases(read(folder / f"{environment}.yaml"))
        mocks.write_text(json.dumps({"StateMachines": machines, "MockedResponses": ANSWERS}))
        with localstack(mocks, log) as endpoint:
            print(f"LocalStack has started in {time.monotonic() - begun:.1f} s")
            for environment in environments:
                check_environment(environment, folder, Services(endpoint))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
