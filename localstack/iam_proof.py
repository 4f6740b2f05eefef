#!/usr/bin/env python3
"""Shows that each program's permissions are enforced, and that it needs every one of them.

For each action in the policies of each role of a running stack it removes the action and runs the path that uses it. The program
must fail with a message that names the action. Then it restores the policy. An action that no path uses is a failure too. What the
emulator does itself, without a check of IAM, is listed (`INSIDE`); scripts/deployed_checks.py compares it with the rendered policies.

Run with the virtual environment's Python: `iam_proof.py --state-dir DIR`. The services must be processes. The last line is
`N passed, N failed`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator

import append_only
import iam_enforcement
from launcher import aws, build, credentials, network, processes, running
from launcher.errors import StackError
from launcher.layout import SHARED, Layout
from launcher.progress import Progress
from launcher.settings import CONFIG_SERVICE, USERS, Settings
from launcher.terraform import DEPLOYER_ROLE

NAMED_SECONDS = 15
TENANT = "A1B2C3D4"
LARGE = bytes(2 << 20)
"""More than the service keeps in memory: it streams such a blob, by its version."""

INSIDE = {
    ("invalidator", "ReadStream"): "the emulator polls streams itself",
    ("invalidator", "ListStreams"): "the emulator polls streams itself",
    ("invalidator", "DeadLetters"): "the emulator sends to the queues itself",
    ("invalidator", "WriteLogs"): "the emulator writes functions' logs itself",
    ("invalidator", "NetworkInterfacesOfLambda"): "the emulator makes no network interfaces",
    ("execution", "RegistrySignIn"): "images are local",
    ("execution", "PullImages"): "images are local",
    ("execution", "WriteLogs"): "processes write to files; where services are containers it is checked when a task starts",
    ("load-test", "FindTasks"): "the local stack names its tasks",
}
"""Statements that no call here is checked against, and why."""


@dataclass(frozen=True)
class Usage:
    """How an action is used: `use` runs the path, and returns where the message that names the action must be found."""

    use: Callable[[], Callable[[], str]]
    prepare: Callable[[], object] = lambda: None


class Proof:
    """The paths of one stack."""

    def __init__(self, stack: Settings, layout: Layout) -> None:
        self.stack = stack
        self.layout = layout
        self.iam = aws.client(stack, "iam")
        self.token, self.admin, self.operator = (
            aws.sign_in(stack, USERS[user][0]) for user in ("TENANT_A_USER", "TENANT_A_ADMIN", "OPERATOR_ADMIN"))
        self.function = stack.output("invalidator_function_name")
        self.roles = {**stack.outputs["task_roles"], "invalidator": self.function}
        self.key = ""
        self.run_id = uuid.uuid4().hex[:8]
        self.paths = self._paths()

    def _paths(self) -> dict[tuple[str, str, str], Usage]:
        item, parameter = self.changed_item, self.changed_parameter
        harness = self.harness
        staleness = ("staleness", "--duration", "1s", "--cells", "1", "--background", "0", "--no-edge", "--no-orders",
                     "--lost-after", "2s", "--source")
        shape = ("--tenants", "1", "--keys", "1")
        latency = ("latency", "--target", "grpc", "--loop", "open", "--duration", "1s", "--warm-up", "100ms", "--rate", "10", *shape)
        seed, unseed = ("seed", *shape), ("unseed",)
        # Where the load test has seeded nothing yet, and where it has.
        fresh = lambda *words: harness(*words, before=unseed)
        seeded = lambda *words: harness(*words, before=seed)
        users = {
            ("load-test", "TestUsers", f"cognito-idp:{action}"): fresh(*latency)
            for action in ("AdminCreateUser", "AdminInitiateAuth", "AdminSetUserPassword")
        }
        return users | self._blob_paths() | self._secret_paths() | {
            ("config-service", "TenantConfiguration", "dynamodb:GetItem"): self.http("GET", "tenant_config_"),
            ("config-service", "TenantConfiguration", "dynamodb:Query"): self.http("GET", "?prefix=tenant_config_"),
            ("config-service", "TenantConfiguration", "dynamodb:PartiQLInsert"): self.http("PUT", "tenant_config_"),
            ("config-service", "TenantConfiguration", "dynamodb:PartiQLUpdate"): self.http("PUT", "tenant_config_", self.write),
            ("config-service", "TenantConfiguration", "dynamodb:PartiQLDelete"): self.http("DELETE", "tenant_config_", self.write),
            ("config-service", "CountInAllTenants", "dynamodb:Scan"): Usage(self.counted_values),
            ("config-service", "ChangeJournal", "dynamodb:PartiQLInsert"): self.http("PUT", "tenant_config_"),
            ("config-service", "ChangeJournal", "dynamodb:Query"): Usage(lambda: self.log("config-1")),
            ("config-service", "History", "dynamodb:PartiQLInsert"): self.http("PUT", "tenant_config_"),
            ("config-service", "History", "dynamodb:Query"): self.http("GET", "tenant_config_", self.write, query=":history"),
            ("config-service", "HistoryByTime", "dynamodb:Query"): self.http("GET", "/v1/history"),
            ("config-service", "FindTasks", "servicediscovery:DiscoverInstances"): Usage(self.waited_write),
            ("config-service", "ReadParameters", "ssm:GetParameters"): self.http("GET", "param_config_"),
            ("config-service", "ParameterHistory", "ssm:GetParameterHistory"): self.http("GET", "param_config_", query=":history"),
            ("config-service", "DecryptConfiguration", "kms:Decrypt"): self.http("GET", "tenant_config_"),
            ("invalidator", "AppendToJournal", "dynamodb:PutItem"): Usage(item),
            ("invalidator", "AppendToHistory", "dynamodb:PartiQLInsert"): Usage(item),
            ("invalidator", "AppendToHistory", "dynamodb:Query"): Usage(item),
            ("invalidator", "FindTasks", "servicediscovery:DiscoverInstances"): Usage(item),
            ("invalidator", "ReadParameters", "ssm:GetParameters"): Usage(parameter),
            ("invalidator", "ReadRefreshCredential", "ssm:GetParameter"): Usage(lambda: self.cold(item)),
            ("invalidator", "Decrypt", "kms:Decrypt"): Usage(lambda: self.cold(item)),
            ("execution", "ReadRefreshCredential", "ssm:GetParameters"): Usage(self.started_task),
            ("execution", "DecryptRefreshCredential", "kms:Decrypt"): Usage(self.started_task),
            ("load-test", "TestUsers", "cognito-idp:AdminDeleteUser"): seeded(*unseed),
            ("load-test", "TestBlobs", "s3:PutObject"): fresh(*seed, "--blobs"),
            ("load-test", "TestBlobs", "s3:DeleteObject"): harness(*unseed, before=(*seed, "--blobs")),
            ("load-test", "EncryptBlobs", "kms:GenerateDataKey"): fresh(*seed, "--blobs"),
            ("load-test", "TestSecrets", "secretsmanager:CreateSecret"): fresh(*seed, "--secrets"),
            ("load-test", "TestSecrets", "secretsmanager:DeleteSecret"): harness(*unseed, before=(*seed, "--secrets")),
            ("load-test", "TestItems", "dynamodb:BatchWriteItem"): fresh(*seed),
            ("load-test", "TestItems", "dynamodb:GetItem"): fresh(*seed),
            ("load-test", "TestItems", "dynamodb:Query"): seeded(*unseed),
            ("load-test", "TestItems", "dynamodb:UpdateItem"): harness(*staleness, "dynamodb"),
            ("load-test", "TestParameters", "ssm:PutParameter"): harness(*staleness, "parameter-store"),
            ("load-test", "TestParameters", "ssm:DeleteParameter"): harness(*staleness, "parameter-store"),
            ("load-test", "EncryptItems", "kms:Decrypt"): fresh(*seed),
            ("load-test", "Receipts", "logs:FilterLogEvents"): harness(*staleness, "dynamodb"),
        }

    def _blob_paths(self) -> dict[tuple[str, str, str], Usage]:
        """The paths of `blob_config_*`. A name that does not exist is read of the tenant and then of all."""
        read, object_of = self.http("GET", "blob_config_"), self.object_of
        streamed = lambda layer: self.http("GET", "blob_config_", lambda: object_of(layer, LARGE), query=":raw", breaks_off=True)
        tenant = f"tenants/{TENANT}"
        return {
            ("config-service", "TenantsBlobs", "s3:GetObject"): read,
            ("config-service", "TenantsBlobs", "s3:GetObjectVersion"): streamed(tenant),
            ("config-service", "TenantsBlobs", "s3:PutObject"): self.http("PUT", "blob_config_"),
            ("config-service", "TenantsBlobs", "s3:DeleteObject"): self.http("DELETE", "blob_config_", lambda: self.write("blob_config_")),
            ("config-service", "ReadSharedBlobs", "s3:GetObject"): read,
            ("config-service", "ReadSharedBlobs", "s3:GetObjectVersion"): streamed("global"),
            ("config-service", "ListBlobs", "s3:ListBucket"): self.http("GET", "?prefix=blob_config_"),
            ("config-service", "ListVersionsOfBlobs", "s3:ListBucketVersions"): self.http(
                "GET", "blob_config_", lambda: object_of(tenant), query=":history"),
            ("config-service", "EncryptBlobs", "kms:Decrypt"): self.http("GET", "blob_config_", lambda: object_of(tenant)),
            ("config-service", "EncryptBlobs", "kms:GenerateDataKey"): self.http("PUT", "blob_config_"),
            ("invalidator", "ReadBlobs", "s3:GetObject"): Usage(self.changed_object),
            ("invalidator", "ListBlobs", "s3:ListBucket"): Usage(self.removed_object, lambda: object_of(tenant)),
            ("invalidator", "DecryptBlobs", "kms:Decrypt"): Usage(self.changed_object),
        }

    def _secret_paths(self) -> dict[tuple[str, str, str], Usage]:
        """The paths of `secret_config_*`, which administrators alone read."""
        read = self.http("GET", "secret_config_", self.secret, by_admin=True)
        return {
            ("config-service", "ReadSecrets", "secretsmanager:DescribeSecret"): read,
            ("config-service", "ReadSecrets", "secretsmanager:GetSecretValue"): read,
            ("config-service", "ReadSecrets", "secretsmanager:ListSecretVersionIds"): self.http(
                "GET", "secret_config_", self.secret, query=":history", by_admin=True),
            ("config-service", "DecryptSecrets", "kms:Decrypt"): read,
        }

    # === config-service ===

    def http(
        self, method: str, key: str, prepare: Callable[[], None] | None = None, *, query: str = "", breaks_off: bool = False,
        by_admin: bool = False,
    ) -> Usage:
        """A request to one replica, which must fail, about a key that nothing has cached, or at another path. An answer that is
        a stream may break off."""

        def use() -> Callable[[], str]:
            log = self.log("config-1")
            path = key if key.startswith(("?", "/")) else f"/{key}{self.key or f'proof-{uuid.uuid4().hex}'}{query}"
            status, _ = self.request(method, path, self.admin if by_admin else self.token)
            if status not in ((500, 0) if breaks_off else (500,)):
                raise AssertionError(f"{method} {path} answers {status}, not 500")
            return log

        return Usage(use, prepare or (lambda: None))

    def request(self, method: str, path: str, token: str | None = None, body: Any = "x") -> tuple[int, bytes]:
        """A request to the first replica, below /v1/config or by a whole path; status 0 when there was no answer, or only a
        part of one."""
        url = f"http://{self.stack.config[0].http_address}{'' if path.startswith('/v1/') else '/v1/config'}{path}"
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": "application/json"}
        try:
            return network.request(url, method=method, headers=headers, body=body if method == "PUT" else None, timeout_seconds=20)
        except http.client.HTTPException as error:
            return 0, str(error).encode()

    def write(self, prefix: str = "tenant_config_") -> None:
        """Writes a key, for a deletion."""
        self.key = f"proof-{uuid.uuid4().hex}"
        status, body = self.request("PUT", f"/{prefix}{self.key}")
        if status not in (200, 201):
            raise AssertionError(f"a key could not be written: {status} {body[:200]!r}")

    def waited_write(self) -> Callable[[], str]:
        """A write that waits for the tasks. It is done, and its answer says that none of them could be found."""
        log = self.log("config-1")
        status, body = self.request("PUT", f"/tenant_config_proof-{uuid.uuid4().hex}?wait_for_tasks=true")
        if status not in (200, 201):
            raise AssertionError(f"a write that waits for the tasks answers {status}, not 201: {body[:200]!r}")
        report = json.loads(body).get("tasks") or {}
        if report.get("live") is not False or report.get("tasks"):
            raise AssertionError(f"the answer does not say that the tasks could not be found: {body[:300]!r}")
        return log

    def counted_values(self) -> Callable[[], str]:
        """A dry run of a schema of all tenants, which must fail: it counts all tenants' values that would break the schema."""
        log = self.log("config-1")
        path = f"/schema_config_tenant_config_proof-{uuid.uuid4().hex}?dry_run=true"
        status, body = self.request("PUT", path, self.operator, {"type": "object"})
        if status != 500:
            raise AssertionError(f"PUT {path} answers {status}, not 500: {body[:200]!r}")
        return log

    def object_of(self, layer: str, content: bytes = b"1") -> None:
        """Puts an object by AWS's own API, of the tenant or of all."""
        self.key = f"proof-{uuid.uuid4().hex}"
        aws.client(self.stack, "s3").put_object(Bucket=self.stack.output("blob_bucket"), Key=f"{layer}/{self.key}", Body=content)

    def secret(self) -> None:
        """Makes a secret of the tenant as an operator does, with the stack's key."""
        self.key = f"proof-{uuid.uuid4().hex}"
        aws.client(self.stack, "secretsmanager").create_secret(
            Name=f"{self.stack.output('secret_root')}/tenants/{TENANT}/{self.key}", SecretString="1",
            KmsKeyId=self.stack.output("secret_kms_key_arn"))

    def log(self, name: str) -> Callable[[], str]:
        """What a program's log has gained since now."""
        file = self.layout.log(name)
        start = file.stat().st_size
        return lambda: file.read_bytes()[start:].decode(errors="replace")

    # === invalidator ===

    def function_log(self) -> Callable[[], str]:
        """What the function's log group has gained since now."""
        logs = aws.client(self.stack, "logs")
        since = int(time.time() * 1000)
        group = self.stack.output("invalidator_log_group")

        def read() -> str:
            events = logs.filter_log_events(logGroupName=group, startTime=since)["events"]
            return "\n".join(event["message"] for event in events)

        return read

    def changed_item(self) -> Callable[[], str]:
        """A change of the table by AWS's own API."""
        log = self.function_log()
        self.edit(f"proof-{uuid.uuid4().hex}")
        return log

    def edit(self, name: str) -> None:
        """Writes an item as an operator does, past the service."""
        aws.client(self.stack, "dynamodb").update_item(
            TableName=self.stack.output("table_name"),
            Key={"PK": {"S": f"TENANT#{TENANT}"}, "SK": {"S": f"CONFIG#{name}"}},
            UpdateExpression="SET configValue = :value, version = :version",
            ExpressionAttributeValues={":value": {"S": "1"}, ":version": {"N": str(time.time_ns() // 1_000_000)}},
        )

    def changed_parameter(self) -> Callable[[], str]:
        """A change of a parameter by AWS's own API."""
        log = self.function_log()
        name = f"{self.stack.output('parameter_root')}/tenants/{TENANT}/proof"
        aws.client(self.stack, "ssm").put_parameter(Name=name, Value=uuid.uuid4().hex, Type="String", Overwrite=True)
        return log

    def changed_object(self) -> Callable[[], str]:
        """A change of an object by AWS's own API."""
        log = self.function_log()
        self.object_of(f"tenants/{TENANT}")
        return log

    def removed_object(self) -> Callable[[], str]:
        """The removal of an object by AWS's own API, once its own event has passed."""
        time.sleep(1)
        log = self.function_log()
        aws.client(self.stack, "s3").delete_object(Bucket=self.stack.output("blob_bucket"), Key=f"tenants/{TENANT}/{self.key}")
        return log

    def cold(self, then: Callable[[], Callable[[], str]]) -> Callable[[], str]:
        """The same in a new environment of the function."""
        functions = aws.client(self.stack, "lambda")
        settings = functions.get_function_configuration(FunctionName=self.function)["Environment"]["Variables"]
        functions.update_function_configuration(
            FunctionName=self.function, Environment={"Variables": {**settings, "PROOF": uuid.uuid4().hex}})
        return then()

    # === execution, load test ===

    def started_task(self) -> Callable[[], str]:
        """The start of a task, as far as its secrets go."""
        try:
            aws.refresh_credential(self.stack)
        except aws.AwsError as error:
            message = str(error)
            return lambda: message
        raise AssertionError("the secret could be read")

    def harness(self, *words: str, before: tuple[str, ...] = ()) -> Usage:
        """A short run of the load test with its own role, and what is to be run before."""

        def run(words: tuple[str, ...]) -> Callable[[], str]:
            program = build.binary(self.stack, "loadtest")
            kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
            environment = {**kept, **self.stack.environment(), **credentials.of_session(self.stack, "load-test", "proof")}
            ran = subprocess.run([program, *words], env=environment, cwd=self.layout.root, capture_output=True, text=True, timeout=120)
            return lambda: ran.stdout + ran.stderr

        return Usage(lambda: run(words), lambda: before and run(before))

    # === the history ===

    def append_only(self) -> str:
        """With the credentials of any role of the deployment no entry of the history can be changed, removed or inserted again.
        config-service's and the invalidator's can add one, and no other."""
        table = self.stack.output("history_table_name")
        self.write()
        entries = self.entries(table, f"tenant_config_{self.key}")
        if len(entries) != 1:
            return f"a write has {len(entries)} entries in {table}, not 1"
        key = {name: entries[0][name] for name in ("PK", "SK")}
        sessions = {program: credentials.of_session(self.stack, program, "append-only") for program in self.stack.outputs["task_roles"]}
        # The account's root may assume a role that trusts a service without conditions, here and not on AWS.
        roles = {"invalidator": self.roles["invalidator"], "deployer": DEPLOYER_ROLE}
        sessions |= {program: aws.assume_role(self.stack, role, "append-only") for program, role in roles.items()}
        for program, keys in sessions.items():
            may_add = program in (CONFIG_SERVICE, "invalidator")
            if wrong := append_only.problem(aws.client(self.stack, "dynamodb", keys), table, key, may_add=may_add):
                return f"{program}: {wrong}"
        return "" if self.entries(table, f"tenant_config_{self.key}") == entries else "the entry is not what it was"

    def entries(self, table: str, key: str) -> list[dict]:
        """The entries of one key of the tenant, as they lie in the table."""
        return aws.client(self.stack, "dynamodb").query(
            TableName=table, KeyConditionExpression="PK = :tenant AND begins_with(SK, :key)", ConsistentRead=True,
            ExpressionAttributeValues={":tenant": {"S": f"TENANT#{TENANT}"}, ":key": {"S": f"{key}#"}},
        )["Items"]

    def scans(self) -> str:
        """With the credentials of config-service's role, the configuration table can be scanned, and neither the journal nor the
        history can, nor the history's index."""
        dynamodb = aws.client(self.stack, "dynamodb", credentials.of_session(self.stack, CONFIG_SERVICE, "scans"))
        tables = {name: {"TableName": self.stack.output(f"{name}_name")} for name in ("table", "journal_table", "history_table")}
        tables["index"] = {**tables["history_table"], "IndexName": "ByTime"}
        found = {name: append_only.code_of(lambda: dynamodb.scan(**table, Limit=1)) for name, table in tables.items()}
        wanted = {name: "" if name == "table" else "AccessDeniedException" for name in tables}
        return "" if found == wanted else f"answers are {found}, not {wanted}"

    def hand_edits(self) -> str:
        """A change past the service is in the history."""
        name = f"proof-{uuid.uuid4().hex}"
        self.edit(name)
        last: list[object] = []

        def found() -> bool:
            status, body = self.request("GET", f"/tenant_config_{name}:history")
            last[:] = [status, body[:200]]
            entries = json.loads(body)["entries"] if status == 200 else []
            return [(entry["operation"], entry["by"]) for entry in entries] == [("put", "unknown")]

        return "" if processes.wait_until(found, NAMED_SECONDS, interval=0.1) else f"its history is {last}"

    # === who calls, and who listens ===

    def callers(self) -> str:
        """Each program calls AWS as its own role and no program calls as the account's root, while this check itself makes no AWS calls."""
        self.calls("DELETE")
        self.write()
        self.request("GET", f"/param_config_proof-{uuid.uuid4().hex}")
        wanted = {f"assumed-role/{self.roles[CONFIG_SERVICE]}/{replica.name}" for replica in self.stack.config}
        wanted |= {f"assumed-role/{self.function}/{self.function}"}
        processes.wait_until(lambda: wanted <= self.calls(), NAMED_SECONDS, interval=0.2)
        found = self.calls()
        return "" if found == wanted else f"callers are {sorted(found)}, not {sorted(wanted)}"

    def calls(self, method: str = "GET") -> set[str]:
        """Who has called anything since the last clearing."""
        _, body = network.request(self.stack.emulator_url + iam_enforcement.PATH, method=method)
        return {call["principal"].split(":")[-1] for call in json.loads(body)["calls"]}

    def environments(self) -> str:
        """No program has keys in its environment, or takes a person's own from a profile; order-service, whose role may do nothing,
        has no credentials at all."""
        for replica in self.stack.replicas:
            record = processes.find(self.layout, replica.name)
            entries = Path(f"/proc/{record.pid}/environ").read_text().split("\0")
            names = {entry.partition("=")[0] for entry in entries}
            if replica.service == CONFIG_SERVICE and f"AWS_SHARED_CREDENTIALS_FILE={os.devnull}" not in entries:
                return f"{replica.name} reads a person's own profiles"
            keys = {name for name in names if name.startswith("AWS_") and ("KEY" in name or "TOKEN" in name)}
            wanted = {"AWS_CONTAINER_AUTHORIZATION_TOKEN"} if replica.service == CONFIG_SERVICE else set()
            if keys != wanted:
                return f"{replica.name} has {sorted(keys)}"
        return ""

    def listeners(self) -> str:
        """Nothing of the stack listens on an address but those that `make local` prints."""
        printed = {(self.stack.emulator_host, self.stack.emulator_port)}
        printed |= {(replica.address, port) for replica in self.stack.replicas for port in replica.ports}
        pids = {record.pid for record in processes.recorded(self.layout).values()}
        found = listening(pids | descendants(pids))
        # Beside them only the runtime interface of functions that run now: ports of the loopback that the system picks.
        more = {address for address in found - printed if address[0] != "127.0.0.1"}
        return "" if printed <= found and not more else f"listeners are {sorted(found)}, not {sorted(printed)}"

    # === taking away ===

    def statements(self, program: str) -> Iterator[tuple[str, dict, dict, str]]:
        """Every allowed action of a program's role: the policy's name, its document, the statement, the action."""
        role = self.roles[program]
        for name in self.iam.list_role_policies(RoleName=role)["PolicyNames"]:
            document = self.iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
            for statement in document["Statement"]:
                actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
                for action in actions if statement["Effect"] == "Allow" else ():
                    yield name, document, statement, action

    @contextlib.contextmanager
    def without(self, program: str, name: str, document: dict, statement: dict, action: str) -> Iterator[None]:
        """The role, for a while, without one action of one statement."""
        role = self.roles[program]
        changed = copy.deepcopy(document)
        for one in changed["Statement"]:
            if one["Sid"] == statement["Sid"]:
                actions = one["Action"] if isinstance(one["Action"], list) else [one["Action"]]
                one["Action"] = [other for other in actions if other != action] or ["none:None"]
        self.iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(changed))
        try:
            yield
        finally:
            self.iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))

    def try_without(self, program: str, name: str, document: dict, statement: dict, action: str) -> str:
        """What is wrong, or nothing: the path must fail, and its message must name the action."""
        path = self.paths.get((program, statement["Sid"], action))
        if path is None:
            return "no path uses it: remove the action, or say how it is used"
        self.key = ""
        path.prepare()
        with self.without(program, name, document, statement, action):
            try:
                said = path.use()
            except AssertionError as error:
                return str(error)
            wanted = f"not authorized to perform: {action} on resource"
            if not processes.wait_until(lambda: wanted in said(), NAMED_SECONDS, interval=0.1):
                return f"no message says {wanted!r}: ...{said()[-600:]}"
        return ""


def descendants(pids: set[int]) -> set[int]:
    """All processes below these."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    while more := {pid for pid, parent in parents.items() if parent in pids | found} - found:
        found |= more
    return found


def listening(pids: set[int]) -> set[tuple[str, int]]:
    """IPv4 and IPv6 addresses on which these processes listen."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    inodes.add(os.readlink(entry.path))
    found = set()
    for family, file in ((socket.AF_INET, "/proc/net/tcp"), (socket.AF_INET6, "/proc/net/tcp6")):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(file).read_text().splitlines()[1:]:
                fields = line.split()
                address, _, port = fields[1].partition(":")
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                    words = b"".join(bytes.fromhex(address[i:i + 8])[::-1] for i in range(0, len(address), 8))
                    found.add((socket.inet_ntop(family, words), int(port, 16)))
    return found


def main() -> int:
    """Runs all of it; 0 when everything was as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--state-dir", default=SHARED, metavar="DIR", help="the stack's folder (default: .local)")
    parser.add_argument("--only", metavar="PROGRAM", help="one program's role")
    arguments = parser.parse_args()
    layout = Layout(Path(arguments.state_dir).resolve())
    stack = running.require_ready(layout)
    if not stack.enforces_iam or stack.docker_network:
        print("error: start a stack whose services are processes and whose emulator enforces IAM: make local DOCKER=0", file=sys.stderr)
        return 1
    if arguments.only in (None, "load-test"):
        build.harness(layout, stack, Progress(sys.stderr))
    proof = Proof(stack, layout)
    passed = failed = 0
    inside = []
    for title, check in (() if arguments.only else (
        ("each program calls as its own role, and none as root", proof.callers),
        ("no program has keys in its environment", proof.environments),
        ("nothing listens beyond what is printed", proof.listeners),
        ("append-only: no role can change or remove an entry of the history", proof.append_only),
        ("an edit past the service is in the history", proof.hand_edits),
        ("config-service can scan the configuration table, and no other", proof.scans),
    )):
        problem = check()
        passed, failed = passed + (not problem), failed + bool(problem)
        print(f"{'FAIL' if problem else 'ok  '} {title} {problem}", flush=True)
    for program in proof.roles:
        if arguments.only not in (None, program):
            continue
        for name, document, statement, action in list(proof.statements(program)):
            if why := INSIDE.get((program, statement["Sid"])):
                inside.append(f"{program:<15} {action:<42} {why}")
                continue
            began = time.monotonic()
            problem = proof.try_without(program, name, document, statement, action)
            passed, failed = passed + (not problem), failed + bool(problem)
            spent = time.monotonic() - began
            print(f"{'FAIL' if problem else 'ok  '} {program:<15} {statement['Sid']:<25} {action:<36} {spent:4.1f} s {problem}", flush=True)
    if inside:
        print("\nnot checked by the emulator; compared with the rendered policies (scripts/deployed_checks.py):")
        print(*inside, sep="\n")
    print(f"\n{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (StackError, subprocess.CalledProcessError) as problem:
        sys.exit(f"error: {problem}")
