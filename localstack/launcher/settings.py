"""The settings of one stack: addresses, replicas, Terraform outputs and users. Stored in `stack.json`."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from typing import Any

from . import containers, network
from .errors import StackError
from .layout import Layout

REGION = "us-east-1"
DEFAULT_EMULATOR_PORT = 4566
DEFAULT_NETWORK = "127.0.10"
CONFIG_SERVICE = "config-service"
ORDER_SERVICE = "order-service"
MINISTACK = "ministack"
EMULATORS = (MINISTACK, "localstack")
LOCALSTACK_PORT = 4567
MAX_REPLICAS = 9
ORDER_NUMBER = 101
"""The last number of order-service's address. The replicas of config-service are 1, 2, ..."""
STORES = {
    # boto3's name: the SDKs' in AWS_ENDPOINT_URL_<name>
    "cloudwatch": "CLOUDWATCH",
    "dynamodb": "DYNAMODB",
    "dynamodbstreams": "DYNAMODB_STREAMS",
    "events": "EVENTBRIDGE",
    "kms": "KMS",
    "lambda": "LAMBDA",
    "logs": "CLOUDWATCH_LOGS",
    "s3": "S3",
    "secretsmanager": "SECRETS_MANAGER",
    "sqs": "SQS",
    "ssm": "SSM",
}
"""What LocalStack does where it is beside the emulator: the stores, the events and what these need.
terraform/local/providers.tf has the same list, and the services that Terraform alone calls (EC2, IAM, STS)."""

USERS = {
    # local-env name: (email, tenant, role)
    "TENANT_A_USER": ("a-writer@example.com", "A1B2C3D4", "writer"),
    "TENANT_B_USER": ("b-writer@example.com", "E5F6G7H8", "writer"),
    "TENANT_A_READER": ("a-reader@example.com", "A1B2C3D4", "reader"),
    "TENANT_A_ADMIN": ("a-admin@example.com", "A1B2C3D4", "admin"),
    "TENANT_B_READER": ("b-reader@example.com", "E5F6G7H8", "reader"),
    "TENANT_B_ADMIN": ("b-admin@example.com", "E5F6G7H8", "admin"),
    # The tenant that terraform/local names the operators'.
    "OPERATOR_ADMIN": ("operators-admin@example.com", "operators", "admin"),
}


@dataclass(frozen=True)
class Ports:
    """The ports of the services: the same on every replica, each of which has an address of its own."""

    grpc: int = 50051
    refresh: int = 50052
    http: int = 8080
    order_http: int = 8090


@dataclass(frozen=True)
class Replica:
    """One local process, or container, of a service."""

    name: str
    service: str
    address: str
    http: int
    grpc: int | None = None
    refresh: int | None = None

    @property
    def ports(self) -> list[int]:
        return [port for port in (self.grpc, self.refresh, self.http) if port is not None]

    @property
    def http_address(self) -> str:
        return f"{self.address}:{self.http}"


@dataclass
class Settings:
    """A stack. `ready` is set when `up` has succeeded; only then may others use the stack."""

    profile: str
    emulator_port: int
    network: str
    password: str
    config_replicas: int = 2
    bin_dir: str | None = None
    ports: Ports = field(default_factory=Ports)
    outputs: dict[str, Any] = field(default_factory=dict)
    applied: str = ""
    seeded: bool = False
    docker_network: str = ""
    """The network of the services' containers. Empty if they are processes."""
    gateway: str = ""
    """This machine's address in that network. The emulator listens there, for the containers and for all others."""
    with_localstack: bool = False
    """Whether LocalStack runs the stores and the events."""
    credentials_secret: str = ""
    """The secret from which the authorization tokens of the tasks' credentials endpoint are derived."""
    images: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, list[str]] = field(default_factory=dict)
    """The containers of each service, as last seen."""
    ready: bool = False

    @property
    def emulator_host(self) -> str:
        return self.gateway or "127.0.0.1"

    @property
    def emulator_url(self) -> str:
        return f"http://{self.emulator_host}:{self.emulator_port}"

    @property
    def enforces_iam(self) -> bool:
        """Whether calls are checked as AWS checks them. LocalStack without an account checks none."""
        return not self.with_localstack

    @property
    def stores_url(self) -> str:
        """The URL of the stores: LocalStack's, or the emulator's."""
        return f"http://{self.emulator_host}:{LOCALSTACK_PORT}" if self.with_localstack else self.emulator_url

    def endpoint(self, service: str) -> str:
        """The URL of this AWS service, by boto3's name."""
        return self.stores_url if service in STORES else self.emulator_url

    def endpoints(self) -> dict[str, str]:
        """The URLs as variables that every SDK reads."""
        elsewhere = {f"AWS_ENDPOINT_URL_{name}": self.stores_url for name in STORES.values()}
        return {"AWS_ENDPOINT_URL": self.emulator_url} | (elsewhere if self.with_localstack else {})

    def refresh_addresses(self) -> None:
        """Reads the containers' addresses from Docker."""
        if self.docker_network:
            self.addresses = containers.addresses(self.docker_network)

    def _addresses(self, service: str, first: int, count: int) -> list[str]:
        if self.docker_network:
            return self.addresses.get(service, [])
        return [f"{self.network}.{number}" for number in range(first, first + count)]

    @property
    def config(self) -> list[Replica]:
        """The replicas of config-service."""
        return [
            Replica(
                name=f"config-{number}",
                service=CONFIG_SERVICE,
                address=address,
                http=self.ports.http,
                grpc=self.ports.grpc,
                refresh=self.ports.refresh,
            )
            for number, address in enumerate(self._addresses(CONFIG_SERVICE, 1, self.config_replicas), 1)
        ]

    @property
    def order(self) -> Replica:
        """The one replica of order-service."""
        found = self._addresses(ORDER_SERVICE, ORDER_NUMBER, 1)
        if not found:
            raise StackError("no container of order-service runs")
        return Replica("order-1", ORDER_SERVICE, found[0], http=self.ports.order_http)

    @property
    def replicas(self) -> list[Replica]:
        return [*self.config, self.order]

    def output(self, name: str) -> str:
        """A Terraform output of the local root."""
        if name not in self.outputs:
            raise StackError(f"terraform/local has no output named {name}")
        return self.outputs[name]

    def optional(self, name: str) -> str:
        """A Terraform output of a part that can be left out, such as `blob_bucket`; empty if it is."""
        return self.outputs.get(name) or ""

    @property
    def api_url(self) -> str:
        return self.output("api_url").rstrip("/")

    def no_proxy(self) -> dict[str, str]:
        """The variables that keep a machine's proxy out of the way to this stack's own addresses.

        Single addresses, since not every program understands a network; a network beside them for containers that start later.
        """
        later = []
        if self.docker_network:
            own = [address for service in self.addresses.values() for address in service]
            later = [f"{self.gateway.rpartition('.')[0]}.0/24"]
        else:
            own = [f"{self.network}.{number}" for number in (*range(1, MAX_REPLICAS + 1), ORDER_NUMBER)]
        return network.no_proxy(self.emulator_host, *own, *later)

    def environment(self) -> dict[str, str]:
        """The variables of `make -s local-env`: the contract of docs and tests with the stack. A tag that is left out has none."""
        tags = {"BLOB_BUCKET": self.optional("blob_bucket"), "SECRET_ROOT": self.optional("secret_root")}
        users = {name: email for name, (email, _, _) in USERS.items()}
        return {
            "API_URL": self.api_url,
            "ALB_URL": self.output("alb_url").rstrip("/"),
            "CONFIG_GRPC": ",".join(f"{replica.address}:{replica.grpc}" for replica in self.config),
            "CONFIG_HTTP": ",".join(replica.http_address for replica in self.config),
            "CONFIG_REFRESH": ",".join(f"{replica.address}:{replica.refresh}" for replica in self.config),
            "ORDER_URL": f"http://{self.order.http_address}",
            "EMULATOR_URL": self.emulator_url,
            **self.endpoints(),
            "AWS_REGION": REGION,
            # The account's root: a person's own. Programs have credentials of their roles (`launcher/credentials.py`).
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "USER_POOL_ID": self.output("user_pool_id"),
            "CLIENT_ID": self.output("client_id"),
            "JWKS_URL": self.output("jwks_url"),
            "ISSUER": self.output("issuer"),
            "TABLE_NAME": self.output("table_name"),
            "PARAMETER_ROOT": self.output("parameter_root"),
            **{name: value for name, value in tags.items() if value},
            "INVALIDATOR_LOG_GROUP": self.output("invalidator_log_group"),
            "TENANT_A_USER": users["TENANT_A_USER"],
            "TENANT_B_USER": users["TENANT_B_USER"],
            "TENANT_A_READER": users["TENANT_A_READER"],
            "TENANT_A_ADMIN": users["TENANT_A_ADMIN"],
            "OPERATOR_ADMIN": users["OPERATOR_ADMIN"],
            "DEMO_PASSWORD": self.password,
            **self.no_proxy(),
        }

    def save(self, layout: Layout) -> None:
        """Writes `stack.json` in one step, readable by the owner only."""
        draft = layout.settings.with_suffix(".draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w") as file:
            json.dump(dataclasses.asdict(self), file, indent=2)
            file.write("\n")
        os.replace(draft, layout.settings)


def load(layout: Layout) -> Settings | None:
    """The stack in this folder, or None when there is none (or one of another launcher's version)."""
    try:
        fields = json.loads(layout.settings.read_text())
        fields["ports"] = Ports(**fields["ports"])
        return Settings(**fields)
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
