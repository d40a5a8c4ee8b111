"""From a green job to a run on a stand-in for AWS: package, load, template, deploy, submit, break, alarm, run again.

    batch.py FOLDER_OF_BINARIES

S3, CloudFormation, Batch and CloudWatch Logs are moto's, in this process; Batch starts real containers of the image that
`hardtack package` has written, by the Docker engine of this machine. Each step is printed with its command and its duration.
What is not as expected is printed, and the exit code is 1.
"""

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["MOTO_DOCKER_NETWORK_MODE"] = "host"

import boto3  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

ROOT = Path(__file__).parents[2]
REGION = "eu-central-1"
IMAGE = "jobs"

steps: list[tuple[str, str, float]] = []
findings: list[str] = []


def step(name: str, command: str, work: Callable[[], Any]) -> Any:
    begun = time.monotonic()
    done = work()
    steps.append((name, command, time.monotonic() - begun))
    print(f"{name:10} {steps[-1][2]:6.1f} s  {command}", flush=True)
    return done


def expect(fine: bool, what: str) -> None:
    if not fine:
        findings.append(what)
        print(f"NOT SO: {what}")


def run(env: dict[str, str], *words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], env=env, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    binaries = Path(sys.argv[1]).absolute()
    hardtack = binaries / "hardtack"
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with tempfile.TemporaryDirectory() as temporary:
            tour(hardtack, binaries, f"http://{host}:{port}", Path(temporary))
    finally:
        server.stop()
    return 1 if findings else 0


def tour(hardtack: Path, binaries: Path, endpoint: str, folder: Path) -> None:
    aws = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
    }
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "HARDTACK_"))}
    env = plain | aws

    def client(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    s3, batch, logs = client("s3"), client("batch"), client("logs")
    for bucket in ["landing", "lake", "state"]:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    fixtures = ROOT / "fixtures" / "lake"
    books = [file for file in (fixtures / "sample_data").rglob("*") if file.is_file()]

    def deliver() -> None:
        for file in books:
            s3.upload_file(str(file), "landing", str(file.relative_to(fixtures)))

    deliver()
    # Without what only debuggers read, which is most of a binary that is not for release.
    stripped = folder / "jobs"
    subprocess.run(["strip", "--strip-debug", "-o", stripped, binaries / "jobs"], check=True)
    packages = folder / "packages"
    step(
        "package",
        "hardtack package jobs --image",
        lambda: run(
            env, hardtack, "package", "jobs", "--image", "--output", packages, "--binary", f"jobs={stripped}"
        ),
    )
    [image] = packages.glob("*.oci.tar")
    loaded = step("load", f"docker load --input {image.name}", lambda: run(plain, "docker", "load", "--input", image))
    tag = loaded.strip().rsplit(" ", 1)[-1]
    version = tag.rsplit(":", 1)[-1]
    subnets = [subnet["SubnetId"] for subnet in client("ec2").describe_subnets()["Subnets"]][:2]
    group = client("ec2").describe_security_groups()["SecurityGroups"][0]["GroupId"]
    (folder / "hardtack.toml").write_text(
        f"""
[env.local]
image = "{tag.rsplit(":", 1)[0]}:{{version}}"
multi-call = true
subnets = {json.dumps(subnets)}
security-groups = ["{group}"]
state = "s3://state/hardtack"
arguments = {{ source = "s3://landing", target = "s3://lake" }}
notify = "data-team@example.com"

[env.local.jobs.books_data_product]
version = "{version}"
"""
    )
    template = folder / "local.yaml"
    words = ["--env", "local", "--config", folder / "hardtack.toml", "--binaries", binaries]
    text = step("template", "hardtack deploy template --env local", lambda: run(env, hardtack, "deploy", "template", *words))
    # moto gives volumes a folder of this machine; Batch on Fargate takes none.
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o777)
    host = f'\\1  Host:\n\\1    SourcePath: "{folder / "tmp"}"\n'
    patched = re.sub('^( *)- Name: "tmp"\n', f'\\g<0>{host}', text, flags=re.MULTILINE)
    expect(patched != text, "the template has a volume for temporary files")
    # Nor does it know the role that Batch has where none is named.
    role = client("iam").create_role(RoleName="batch", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    managed = '    Type: "AWS::Batch::ComputeEnvironment"\n    Properties:\n'
    patched = patched.replace(managed, f'{managed}      ServiceRole: "{role}"\n')
    template.write_text(patched)
    cloudformation = client("cloudformation")
    step(
        "deploy",
        "aws cloudformation deploy --stack-name jobs-local",
        lambda: cloudformation.create_stack(
            StackName="jobs-local", TemplateBody=template.read_text(), Capabilities=["CAPABILITY_IAM"]
        ),
    )
    [stack] = cloudformation.describe_stacks(StackName="jobs-local")["Stacks"]
    expect(stack["StackStatus"] == "CREATE_COMPLETE", f"the stack is {stack['StackStatus']}")
    [queue] = [output["OutputValue"] for output in stack["Outputs"] if output["OutputKey"] == "JobQueue"]
    overrides = {"environment": [{"name": name, "value": value} for name, value in aws.items()]}

    def submitted(**more: Any) -> str:
        return batch.submit_job(
            jobName="books_data_product",
            jobQueue=queue,
            jobDefinition="local-books_data_product",
            containerOverrides=overrides,
            **more,
        )["jobId"]

    def submit() -> dict[str, Any]:
        return ended(submitted())

    def submit_array() -> list[dict[str, Any]]:
        parent = submitted(arrayProperties={"size": 2})
        return [ended(f"{parent}:{index}") for index in range(2)]

    def ended(job: str) -> dict[str, Any]:
        for _ in range(240):
            [found] = batch.describe_jobs(jobs=[job])["jobs"]
            if found["status"] in ["SUCCEEDED", "FAILED"]:
                return found
            time.sleep(0.5)
        sys.exit(f"the job {job} does not end")

    def said(job: dict[str, Any]) -> str:
        stream = job["container"]["logStreamName"]
        events = logs.get_log_events(logGroupName="/aws/batch/job", logStreamName=stream)["events"]
        return "\n".join(event["message"] for event in events)

    def metrics(job: dict[str, Any]) -> dict[str, Any]:
        lines = [json.loads(line) for line in said(job).splitlines() if line.startswith('{"_aws"')]
        return next((line for line in lines if "Succeeded" in line), {})

    def published() -> list[str]:
        found = s3.list_objects_v2(Bucket="lake", Prefix="books/").get("Contents", [])
        return [file["Key"] for file in found if file["Key"].endswith(".parquet")]

    job = step("submit", "aws batch submit-job --job-definition local-books_data_product", submit)
    expect(job["status"] == "SUCCEEDED", f"the job is {job['status']}:\n{said(job)}")
    expect(len(published()) == 1, f"one file is published: {published()}")
    expect(metrics(job).get("RowsWritten") == 6, f"the metrics of the run are in its log:\n{said(job)}")
    expect(metrics(job).get("batch_job") == job["jobId"], "the run knows its job of Batch")

    # Children of an array that write to one place: one commits at a time, and who comes too late is told so by code 4.
    children = step("array", "aws batch submit-job --array-properties size=2 ...", submit_array)
    succeeded = [child["status"] == "SUCCEEDED" for child in children]
    expect(any(succeeded), f"a child of the array has committed: {[said(child) for child in children]}")
    late = [child for child in children if child["status"] != "SUCCEEDED"]
    expect(all('"exit_code":4' in said(child) for child in late), f"the other was late: {[said(c) for c in late]}")
    expect(len(published()) == 1, f"one file is published: {published()}")

    before = published()
    for file in books:
        s3.delete_object(Bucket="landing", Key=str(file.relative_to(fixtures)))
    job = step("break", "the landing zone is empty", submit)
    expect(job["status"] == "FAILED", f"the job is {job['status']}")
    expect(job["container"].get("exitCode") in [None, 1], f"the exit code is {job['container'].get('exitCode')}")
    expect(published() == before, "what was published is untouched")
    expect(metrics(job).get("Failed") == 1, f"the metric of the alarm is in the log:\n{said(job)}")

    def alarm() -> list[str]:
        [rule] = [rule for rule in client("events").list_rules()["Rules"] if "FAILED" in rule.get("EventPattern", "")]
        pattern = json.loads(rule["EventPattern"])
        matches = job["status"] in pattern["detail"]["status"] and queue in pattern["detail"]["jobQueue"]
        targets = client("events").list_targets_by_rule(Rule=rule["Name"])["Targets"] if matches else []
        return [target["Arn"] for target in targets]

    topics = step("alarm", "the rule FailedJobs matches the job, and its target is the topic", alarm)
    expect(len(topics) == 1 and ":sns:" in topics[0], f"people are told: {topics}")
    listed = run(env, hardtack, "--state", "s3://state/hardtack", "runs", "books_data_product", "--json")
    statuses = [json.loads(line)["status"] for line in listed.splitlines()]
    expect(statuses[-1] == "failed" and "succeeded" in statuses, f"the runs are on record: {statuses}")

    deliver()
    job = step("rerun", "aws batch submit-job again", submit)
    expect(job["status"] == "SUCCEEDED", f"the job is {job['status']}:\n{said(job)}")
    print(f"{'in all':10} {sum(seconds for _, _, seconds in steps):6.1f} s")
    subprocess.run(["docker", "image", "rm", "--force", tag], env=plain, capture_output=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
