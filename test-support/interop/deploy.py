"""Derives the infrastructure of the jobs of this repository, and lets others judge it.

    deploy.py FOLDER_OF_BINARIES FOLDER_FOR_TEMPLATES

S3, Glue, CloudFormation, Batch and the rest are moto's, in this process. The template of each environment of `hardtack.toml`
must pass cfn-lint, which also checks the state machines in it, and become a stack; what is deployed must differ from the
template in nothing. Then a job runs as Batch would start it, and the metrics that it prints must be of the embedded metric
format. A finding is printed, and the exit code is 1.

The templates are left for stacks.py: `NAME.yaml`, and `NAME-next.yaml`, in which a job has another version.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import boto3
import jsonschema
from cfnlint import core as _core  # noqa: F401 (fails early if cfn-lint is not there)
from moto.server import ThreadedMotoServer

ROOT = Path(__file__).parents[2]
REGION = "eu-central-1"

# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
EMBEDDED_METRIC_FORMAT = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer"},
                "CloudWatchMetrics": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["Namespace", "Dimensions", "Metrics"],
                        "properties": {
                            "Namespace": {"type": "string", "minLength": 1, "maxLength": 1024},
                            "Dimensions": {
                                "type": "array",
                                "minItems": 1,
                                "items": {
                                    "type": "array",
                                    "maxItems": 30,
                                    "items": {"type": "string", "minLength": 1, "maxLength": 250},
                                },
                            },
                            "Metrics": {
                                "type": "array",
                                "minItems": 1,
                                "maxItems": 100,
                                "items": {
                                    "type": "object",
                                    "required": ["Name"],
                                    "properties": {
                                        "Name": {"type": "string", "minLength": 1, "maxLength": 1024},
                                        "Unit": {"enum": ["Seconds", "Bytes", "Count", "None", "Percent"]},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}

# A job of each environment. That of `prod` has a schedule, and is in a pipeline.
CHANGED = {"dev": "customer_events", "prod": "books_data_product"}
RETENTION = {"dev": 7, "prod": 30}

findings: list[str] = []


def expect(fine: bool, what: str) -> None:
    if not fine:
        findings.append(what)
        print(f"NOT SO: {what}")


def run(env: dict[str, str], *words: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(word) for word in words], env=env, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    if done.stderr.strip():
        print(done.stderr.strip())
    return done.stdout


def client(service: str, endpoint: str) -> Any:
    return boto3.client(
        service, endpoint_url=endpoint, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
    )


def network(endpoint: str, config: str) -> str:
    """The environments with subnets and a group that there are."""
    ec2 = client("ec2", endpoint)
    subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]][:2]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    lines = []
    for line in config.splitlines():
        if line.startswith("subnets"):
            line = f"subnets = {json.dumps(subnets)}"
        if line.startswith("security-groups"):
            line = f'security-groups = ["{group}"]'
        lines.append(line)
    return "\n".join(lines)


def service_role(endpoint: str) -> str:
    iam, name = client("iam", endpoint), "AWSServiceRoleForBatch"
    if name not in [role["RoleName"] for role in iam.list_roles()["Roles"]]:
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    return iam.get_role(RoleName=name)["Role"]["Arn"]


def check_environment(
    name: str, binaries: Path, endpoint: str, env: dict[str, str], folder: Path, templates: Path
) -> None:
    config, template = folder / "hardtack.toml", templates / f"{name}.yaml"
    words = ["--env", name, "--config", config, "--binaries", binaries]
    run(env, binaries / "hardtack", "deploy", "template", *words, "--output", template)
    job = f"[env.{name}.jobs.{CHANGED[name]}]\n"
    config_next = folder / "hardtack-next.toml"
    config_next.write_text(config.read_text().replace(job, f'{job}version = "9.9.9"\n'))
    words_next = ["--env", name, "--config", config_next, "--binaries", binaries]
    run(env, binaries / "hardtack", "deploy", "template", *words_next, "--output", templates / f"{name}-next.yaml")
    lint = subprocess.run(
        [Path(sys.executable).parent / "cfn-lint", "--regions", REGION, "--", template],
        capture_output=True,
        text=True,
    )
    expect(lint.returncode == 0, f"cfn-lint takes the template of {name}:\n{lint.stdout}{lint.stderr}")

    cloudformation = client("cloudformation", endpoint)
    # Batch has a role of its own where none is named; moto wants a name.
    role = service_role(endpoint)
    managed = '    Type: "AWS::Batch::ComputeEnvironment"\n    Properties:\n'
    body = template.read_text().replace(managed, f'{managed}      ServiceRole: "{role}"\n')
    cloudformation.create_stack(StackName=name, TemplateBody=body, Capabilities=["CAPABILITY_IAM"])
    [stack] = cloudformation.describe_stacks(StackName=name)["Stacks"]
    expect(stack["StackStatus"] == "CREATE_COMPLETE", f"{name} is deployed: {stack['StackStatus']}")
    deployed = folder / f"{name}-deployed.json"
    deployed.write_text(json.dumps({"TemplateBody": cloudformation.get_template(StackName=name)["TemplateBody"]}))
    changes = run(env, binaries / "hardtack", "deploy", "diff", *words, "--against", deployed)
    expected = f'- ComputeEnvironment.ServiceRole: "{role}"\n'
    expect(changes == expected, f"what is deployed of {name} is the template, but for that role:\n{changes}")
    unchanged = run(env, binaries / "hardtack", "deploy", "diff", *words, "--against", template)
    expect(unchanged == "nothing changes\n", f"a template is the same again:\n{unchanged}")

    # LocalStack's CloudFormation ignores it.
    groups = client("logs", endpoint).describe_log_groups(logGroupNamePrefix=f"/hardtack/{name}/")["logGroups"]
    retentions = {group.get("retentionInDays") for group in groups}
    expect(retentions == {RETENTION[name]}, f"log groups of {name} are kept for some days: {groups}")

    definitions = {
        definition["jobDefinitionName"]: definition
        for definition in client("batch", endpoint).describe_job_definitions()["jobDefinitions"]
    }
    expect(f"{name}-customer_events" in definitions, f"{name} has job definitions: {sorted(definitions)}")
    print(f"{name}: {len(template.read_text().splitlines())} lines of CloudFormation, {len(definitions)} job definitions")


def check_metrics(binaries: Path, env: dict[str, str], folder: Path) -> None:
    batch = {"AWS_BATCH_JOB_ID": "4711:3", "AWS_BATCH_JOB_ATTEMPT": "2", "HARDTACK_SHOW": "0"}
    words = [binaries / "jobs", "run", "books_data_product", "--target", folder / "lake", "--state", folder / "state"]
    lines = [json.loads(line) for line in run(env | batch, *words).splitlines()]
    expect(len(lines) == 4, f"a line for the job, two sources and a sink: {len(lines)}")
    for line in lines:
        jsonschema.validate(line, EMBEDDED_METRIC_FORMAT)
        for directive in line["_aws"]["CloudWatchMetrics"]:
            for name in [metric["Name"] for metric in directive["Metrics"]]:
                expect(isinstance(line.get(name), (int, float)), f"{name} is a number in {line}")
            for dimension in directive["Dimensions"][0]:
                expect(isinstance(line.get(dimension), str), f"{dimension} is a text in {line}")
    expect(lines[0]["Succeeded"] == 1 and lines[0]["batch_job"] == "4711:3", f"the run has succeeded: {lines[0]}")
    print(f"{len(lines)} lines of the embedded metric format")


def main() -> int:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    binaries, templates = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    templates.mkdir(parents=True, exist_ok=True)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "HARDTACK_"))}
        env = plain | {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
        }
        s3 = client("s3", endpoint)
        for stage in ["", "-dev"]:
            for kind in ["state", "landing", "lake"]:
                bucket = f"example{stage}-{kind}"
                s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
            for file in (ROOT / "fixtures" / "lake").rglob("*"):
                if file.is_file():
                    key = str(file.relative_to(ROOT / "fixtures" / "lake"))
                    s3.upload_file(str(file), f"example{stage}-landing", key)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            (folder / "hardtack.toml").write_text(network(endpoint, (ROOT / "hardtack.toml").read_text()))
            for name in CHANGED:
                check_environment(name, binaries, endpoint, env, folder, templates)
            check_metrics(binaries, plain, folder)
    finally:
        server.stop()
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
