"""The AWS target without AWS: plans of both environments, then the deployment tool's own deploy, rollback and destroy,
on moto, as the role of terraform/deployer.

Run with the virtual environment's Python. Ends with `N passed, N failed`. What moto lacks is switched off by the
root's variables: autoscaling and saved queries. It has no data plane either, and nothing is built: a fake Docker
(deploy/tests/docker.py) pushes images without content.
Everything runs on copies of the tree, with overrides for what moto does otherwise than AWS: OVERRIDES.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Iterator, Sequence

import boto3

import deployer_checks
from launcher import network

REPOSITORY = Path(__file__).resolve().parents[1]
LACKING = ["autoscaling_enabled=false", "log_queries_enabled=false"]
# What prod requires and dev does not.
PROD = ['alert_emails=["a@example.com"]']
OVERRIDES = {
    # It knows buckets by path alone, and answers with 500 to what it lacks.
    "aws": 'provider "aws" {\n  s3_use_path_style = true\n  max_retries       = 3\n}\n'
    # Nor does it know of every endpoint.
    'data "aws_vpc_endpoint_service" "interface" {\n'
    '  for_each = toset(["data-servicediscovery", "ecr.api", "ecr.dkr", "logs", "secretsmanager", "ssm"])\n}\n',
    # It does not read the condition of a Deny (TLS), so no package and no blob could be put there.
    "modules/images": 'resource "aws_s3_bucket_policy" "artifacts" {\n  count = 0\n}\n',
    "modules/storage/blobs": 'resource "aws_s3_bucket_policy" "this" {\n  count = 0\n}\n',
    # It fails when the account's setting is taken away.
    "account": 'resource "aws_api_gateway_account" "this" {\n  reset_on_delete = false\n}\n',
}
COPIED = ("terraform", "deploy", "localstack")
OWNERS = {"account-settings"}
"""What the account's owner does; everything else is done by the environment's deployer."""


class Checks:
    """Counts results, and ends the commands that it runs on `end`."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self._ended = False

    def end(self) -> None:
        """Ends what runs; nothing more is begun."""
        self._ended = True
        for process in list(self._running):
            process.kill()

    def run(self, command: list[str], environment: dict[str, str], timeout_seconds: float) -> tuple[int, str]:
        """One command to its end: its code, and all that it printed."""
        if self._ended:
            raise SystemExit("ended from outside")
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._running.add(process)
        try:
            output, _ = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            output = f"{process.communicate()[0]}\nno end after {timeout_seconds:.0f} s"
        finally:
            self._running.discard(process)
        return process.returncode, output

    def check(self, title: str, command: list[str], environment: dict[str, str], *expected: str, code: int = 0) -> bool:
        """One command, which must end with this code and print all of this."""
        started = time.monotonic()
        ended, output = self.run(command, environment, 900)
        missing = [text for text in expected if text not in output]
        good = ended == code and not missing
        story = f"{output[-6000:]}\ncode {ended}, expected {code}; missing: {missing}\n"
        return self.count(f"{title} ({time.monotonic() - started:.0f} s)", good, story)

    def count(self, title: str, good: bool, story: str = "") -> bool:
        """Counts one check. Prints the details if it failed."""
        with self._lock:
            print(f"{'' if good else story}{'ok   ' if good else 'FAIL '} {title}", flush=True)
            self.passed += good
            self.failed += not good
        return good

    def checks_of(self, command: list[str]) -> None:
        """A command that counts its own checks in its last line."""
        lines = self.run(command, dict(os.environ), 120)[1].splitlines()
        summary = re.fullmatch(r"(\d+) passed, (\d+) failed", lines[-1] if lines else "")
        with self._lock:
            print(*lines[:-1], sep="\n", flush=True)
            self.passed += int(summary[1]) if summary else 0
            self.failed += int(summary[2]) if summary else 1


# moto_server, answering one request at a time: its backends do not expect threads, and a request that failed halfway
# is retried, and then refused as a duplicate. Connections are still taken by threads: clients keep idle ones. Head and
# body of an answer leave in one write (localstack/whole_answers.py says why).
# A session of a role may do what the role's policies allow.
SERVER = """
import io, sys, threading
sys.path.insert(0, sys.argv[2])
import moto_iam
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

class WholeAnswers(WSGIRequestHandler):
    wbufsize = -1

application, one = DomainDispatcherApplication(create_backend_app), threading.Lock()

def serve(environ, start_response):
    with one:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        if length:
            environ["wsgi.input"] = io.BytesIO(body)
        denied = moto_iam.denial(environ, body)
        if denied:
            status, headers, text = denied
            start_response(f"{status} Denied", [(name, str(value)) for name, value in headers.items()])
            return [text if isinstance(text, bytes) else text.encode()]
        return application(environ, start_response)

run_simple("127.0.0.1", int(sys.argv[1]), serve, threaded=True, request_handler=WholeAnswers)
"""


@contextlib.contextmanager
def moto(log: Path) -> Iterator[str]:
    """A moto server of its own, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
    with open(log, "w") as output:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(port), str(REPOSITORY / "scripts")],
            env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, server, log)
        # Functions are stored, not run: moto would want Docker for that.
        request = urllib.request.Request(f"{url}/moto-api/config", data=b'{"lambda": {"use_docker": false}}', method="POST")
        urllib.request.urlopen(request, timeout=10).close()
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=20)


def _wait(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        if server.poll() is not None:
            raise RuntimeError(f"moto_server ended at its start: {log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(f"{url}/moto-api/config", timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("moto_server did not answer in 60 s")


def copy_of_the_tree(folder: Path) -> Path:
    """Copies the folders that are written to, and links everything else."""
    for entry in REPOSITORY.iterdir():
        if entry.name in COPIED:
            ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "backend_override.tf", "__pycache__")
            shutil.copytree(entry, folder / entry.name, ignore=ignored)
        elif entry.name != ".local":
            (folder / entry.name).symlink_to(entry)
    # A folder for the state of the tools, with the environment and the caches that there are already.
    (folder / ".local").mkdir()
    for entry in (REPOSITORY / ".local").iterdir():
        if entry.name in ("venv", "venv.lock", "bin", "cache"):
            (folder / ".local" / entry.name).symlink_to(entry)
    for part, text in OVERRIDES.items():
        (folder / "terraform" / part / "emulated_override.tf").write_text(text)
    return folder


class Target:
    """The copy of the tree with the deployment tool in it, and the account that it works on."""

    def __init__(self, checks: Checks, folder: Path, url: str) -> None:
        self.checks = checks
        self.folder = folder
        tools = folder / "fakes"
        tools.mkdir()
        docker = tools / "docker"
        docker.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder}/deploy/tests/docker.py" "$@"\n')
        docker.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_VAR_"))}
        self.environment = kept | {
            "AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            # The copy shares its index with the tree that it is of.
            "GIT_OPTIONAL_LOCKS": "0",
        }
        self._sessions: dict[str, dict[str, str]] = {}

    def deployer(self, env: str) -> dict[str, str]:
        """The environment of a session of the environment's deployer, whose role is made at the first use."""
        if env not in self._sessions:
            root = self.folder / "terraform" / "deployer"
            variables = [f"permissions_boundary_arn={deployer_checks.BOUNDARY}"]
            self._sessions[env] = deployer_checks.session(root, env, self.environment, variables)
        return self.environment | self._sessions[env]

    def check(
        self, title: str, command: str, env: str, *expected: str,
        variables: Sequence[str] = (), more: Sequence[str] = (), docker: str = "", code: int = 0,
    ) -> bool:
        """One command of the tool, which must end with this code and print all of this."""
        options = [option for variable in variables for option in ("--var", variable)]
        line = [sys.executable, str(self.folder / "deploy" / "deploy.py"), command, "--env", env, *options, *more]
        environment = self.environment if command in OWNERS else self.deployer(env)
        return self.checks.check(title, line, environment | {"TAGGED_CONFIG_DOCKER": docker}, *expected, code=code)

    def outputs(self, env: str) -> dict:
        """What `make loadtest-aws` reads: standard output must be JSON and nothing else."""
        line = [sys.executable, str(self.folder / "deploy" / "deploy.py"), "outputs", "--env", env]
        result = subprocess.run(line, env=self.deployer(env), capture_output=True, text=True, timeout=120)
        with contextlib.suppress(ValueError):
            return {name: output["value"] for name, output in json.loads(result.stdout).items()}
        return {}

    def parameter(self, name: str) -> None:
        """Writes a parameter as an operator does, which no state has."""
        self._owner("ssm").put_parameter(Name=name, Value="0.1", Type="String")

    def blob(self, bucket: str, key: str) -> None:
        """Writes two versions of an object as an operator does, which no state has."""
        for body in (b"1", b"2"):
            self._owner("s3").put_object(Bucket=bucket, Key=key, Body=body)

    def _owner(self, service: str):
        return boto3.client(
            service, endpoint_url=self.environment["AWS_ENDPOINT_URL"], region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )

    def state(self, env: str) -> Path:
        """The environment's state file."""
        return self.folder / "terraform" / "aws" / f"{env}.tfstate"

    def resources(self, env: str) -> list[dict]:
        """Managed resources in the state."""
        return [r for r in json.loads(self.state(env).read_text())["resources"] if r["mode"] == "managed"]

    def versions(self, env: str) -> set[str]:
        """Tags of all images and packages that run."""
        found = set()
        for resource in self.resources(env):
            for instance in resource["instances"]:
                if resource["type"] == "aws_ecs_task_definition":
                    containers = json.loads(instance["attributes"]["container_definitions"])
                    found |= {container["image"].rpartition(":")[2] for container in containers}
                if resource["type"] == "aws_lambda_function":
                    found.add(instance["attributes"]["s3_key"].partition("/")[0])
        return found


def parts(checks: Checks) -> None:
    """Runs the unit tests of the tool and of the checks, without Terraform."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "localstack"), "PYTHONDONTWRITEBYTECODE": "1"}
    for title, folder in (("the deployment tool", REPOSITORY / "deploy"), ("the checks", REPOSITORY / "scripts")):
        command = [sys.executable, "-m", "unittest", "discover", "-s", str(folder / "tests"), "-t", str(folder)]
        checks.check(f"parts of {title}", command, environment, "OK")


def plans(target: Target) -> None:
    """Plans both environments with either API, and variables that prod refuses."""
    for env, api in (("dev", "rest"), ("dev", "http"), ("prod", "rest"), ("prod", "http")):
        target.check(f"plan {env}, {api}", "plan", env, "Plan: ", variables=[f"api_type={api}", *(PROD if env == "prod" else [])])
    target.check(
        "prod refuses sign-in by password, and APIs of a third kind", "plan", "prod",
        "admin_password_sign_in must be false in prod", "api_type must be rest or http",
        variables=["admin_password_sign_in=true", "api_type=soap", *PROD], code=1,
    )
    target.check(
        "prod refuses load tests", "plan", "prod", "load_test_runner must be false in prod",
        variables=["load_test_runner=true", *PROD], code=1,
    )
    target.check("prod refuses alarms without a receiver", "plan", "prod", "prod needs alert_emails or alert_topic_arns", code=1)


def half_made(target: Target) -> None:
    """A deployment that fails at its second image can be destroyed, protected as it is, and nothing is made for that."""
    target.check("deploy without a Docker daemon says so", "deploy", "prod", "daemon does not answer", variables=PROD, docker="down", code=1)
    target.check(
        "preflight finds that there is no log role", "preflight", "prod", "stop  this account has no role that API Gateway logs with",
        "Fargate's quota of vCPUs (L-3032A538): not checked", variables=PROD, code=1,
    )
    target.check(
        "deploy without a log role makes nothing", "deploy", "prod", "make account-settings", "nothing was made", variables=PROD, code=1
    )
    target.checks.count("nothing was made or remembered", not target.state("prod").exists()
                        and not (target.folder / ".local" / "aws" / "prod" / "deployed.json").exists())
    target.check("the account is given a log role", "account-settings", "dev", "account settings")
    target.check("preflight finds nothing more", "preflight", "prod", "role/tagged-config-api-gateway-logs", variables=PROD)
    target.check("what the root refuses is not remembered", "deploy", "prod", "the variables are refused", "api_type must be rest or http",
                 variables=["api_type=soap", *PROD], code=1)
    target.check(
        "deploy prod ends when an image fails", "deploy", "prod", "building order-service failed",
        variables=[*LACKING, *PROD], docker="half", code=1,
    )
    made = {resource["module"] for resource in target.resources("prod")}
    target.checks.count(f"only repositories were made: {made}", made == {"module.images"})
    target.check(
        "destroy prod, made by half and protected", "destroy", "prod", "lift protection", "nothing is left", more=["--yes", "prod"]
    )
    log = (target.folder / ".local" / "aws" / "prod" / "terraform.log").read_text()
    others = sorted(set(re.findall(r"^(module\.(?!images\b)\w+).*: Creating\.\.\.", log, re.MULTILINE)))
    target.checks.count(f"nothing was made to destroy it{': ' if others else ''}{', '.join(others)}", not others)


def whole(target: Target) -> None:
    """Deploys, deploys a second version with the other API, rolls back to the first one, and destroys."""
    target.check("the account is given a log role", "account-settings", "dev", "account settings")
    everything = [*LACKING, "load_test_runner=true", "admin_password_sign_in=true", 'alert_emails=["a@example.com"]', "nat=single"]
    everything.append("operator_tenant=operators")
    # The deployer may make no role without it.
    everything.append(f"permissions_boundary_arn={deployer_checks.BOUNDARY}")
    if target.check("deploy dev", "deploy", "dev", "make rollback ENV=dev", variables=everything):
        target.checks.checks_of([sys.executable, str(REPOSITORY / "scripts" / "deployed_checks.py"), str(target.state("dev"))])
        first = target.outputs("dev").get("image_tag", "")
        target.checks.count("outputs are JSON", bool(first))
        target.checks.count("one version runs", target.versions("dev") == {first})
        for title, refused in deployer_checks.refused("dev", target.deployer("dev")).items():
            target.checks.count(f"the deployer is refused {title}", refused)
        target.check("redrive finds the three queues", "redrive", "dev", "dev: no dead letters")
        # Moto runs no function: it answers with what it was sent.
        target.check("flush believes no other answer", "flush", "dev", 'an unexpected answer, {"flush": true}', code=1)
        target.check("what is deployed counts as left", "destroy-verify", "dev", "LEFT: ", "LEFT: /tagged-config-dev/config/", code=1)
        target.check("destroy wants the right name", "destroy", "dev", "nothing was removed", more=["--yes", "prod"], code=1)
        target.check(
            "another region is refused", "plan", "dev", "set AWS_REGION=eu-west-1", variables=["region=eu-west-1"], code=1
        )
        target.parameter("/tagged-config-dev/config/tenants/a/tax/rate")
        target.blob(target.outputs("dev")["blob_bucket"], "tenants/a/model")
        (target.folder / "another-version").write_text("new\n")
        if target.check(
            "deploy dev: another version and API, other variables remembered", "deploy", "dev", "nat=single", "make rollback ENV=dev",
            variables=["api_type=http"],
        ):
            second = target.outputs("dev").get("image_tag", "")
            target.checks.count("the other version runs", target.versions("dev") == {second} != {first})
            target.check("roll back dev", "rollback", "dev", "api_type=http", f"from {second} back to {first}")
            apis = {resource["type"] for resource in target.resources("dev")} & {"aws_apigatewayv2_api", "aws_api_gateway_rest_api"}
            target.checks.count("the first version runs again, behind the remembered API",
                                target.versions("dev") == {first} and apis == {"aws_apigatewayv2_api"})
    target.check("destroy dev, nothing is left", "destroy", "dev", "nothing is left", more=["--yes", "dev"])
    target.check("destroy-verify agrees", "destroy-verify", "dev", "nothing is left")


def parts_plans_and_half_made(target: Target) -> None:
    """The checks that together take about as long as `whole`."""
    parts(target.checks)
    plans(target)
    half_made(target)


def on_its_own(checks: Checks, work: Callable[[Target], None]) -> tuple[set[str], set[str]]:
    """Works on a copy and an account of its own. Returns the actions that the deployer was granted, and used."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_of_the_tree(Path(temporary))
        with moto(folder / "moto.log") as url:
            work(Target(checks, folder, url))
        return deployer_checks.granted(folder / "terraform" / "deployer"), deployer_checks.used((folder / "moto.log").read_text())


def main() -> int:
    checks = Checks()
    # The account is on this machine: neither these checks nor the tools that they run reach it through a proxy.
    os.environ.update(network.no_proxy())
    # After SIGTERM the servers are stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Terraform waits more than it works.
    with ThreadPoolExecutor(2) as pool:
        try:
            running = [pool.submit(on_its_own, checks, work) for work in (whole, parts_plans_and_half_made)]
            granted, used = (set().union(*actions) for actions in zip(*(done.result() for done in running)))
            superfluous = deployer_checks.superfluous(granted, used)
            print(f"the deployer has {len(granted)} actions; {len(granted & used)} were used, the others by the reasons of UNUSED")
            checks.count("every action of the deployer has a use, or a reason", not superfluous, f"without: {superfluous}\n")
        except BaseException:
            checks.end()
            raise
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
