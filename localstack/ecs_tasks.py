"""An emulator extension: ECS tasks run as containers, the way the task definition says.

MiniStack starts a container for each task, but leaves out much of what the definition says of it, takes a task for
running before it serves, and knows no Cloud Map registration. With this extension, in the Docker network that
`TAGGED_CONFIG_DOCKER_NETWORK` names:

- a secret that is a SecureString is decrypted;
- with IAM enforced, the execution role must be allowed what starting a task needs (its secrets, its log stream), and the
  container finds the credentials of the task role where ECS has them, at 169.254.170.2;
- a container has a read-only root, the user, the dropped capabilities, the init process, the limits, the health check
  and the stop timeout of its definition;
- its address is the lowest free one of the network, so that a task takes the place of the one it replaces;
- a task is running once its load balancer's health check is answered, and only then has it a target;
- it is registered in the Cloud Map service that the ECS service names, whose name Docker's DNS resolves;
- a task that ends leaves both first, then gets SIGTERM, and has its stop timeout.

It hooks private functions of one pinned version and refuses any other (`hooks`).
"""

from __future__ import annotations

import http.client
import ipaddress
import logging
import os
import threading
import time
from types import ModuleType
from typing import Any, Callable

import hooks
from iam_enforcement import Installed
from iam_enforcement.credentials import ECS as ECS_TASKS, Refused as RoleRefused, path_of
from iam_enforcement.services import Denied

logger = logging.getLogger("ecs_tasks")

NETWORK_VARIABLE = "TAGGED_CONFIG_DOCKER_NETWORK"
"""The Docker network of the tasks; without it, this extension is not installed."""
STOP_LABEL = "tagged-config.stop-timeout"
ADDRESS_LABEL = "tagged-config.address"
HEALTHY_SECONDS = 60.0
"""How long a task may take to answer its health check."""
DRAIN_SECONDS = 1.0
"""The time from a task's deregistration at the load balancer and Cloud Map to its SIGTERM."""
RESTART_SECONDS = 3.0
"""Between the failure of a task that never ran well and the start of the next."""
FIRST_HOST = 11
"""The last number of the first task's address, in a network of 256."""

_HOOKED = {
    "_build_run_kwargs": ["cdef", "td", "env", "port_bindings", "ecs_network", "host_mode", "task_id", "task_arn",
                          "ministack_net_ip", "cluster_arn"],
    "_mark_task_running": ["task_arn", "task"],
    "_sync_service_targets": ["cluster_name", "svc"],
    "_remove_docker_container": ["docker_client", "container_or_id"],
    "_resolve_container_secrets": ["cdef"],
    "_run_docker_container": ["docker_client", "cdef", "run_kwargs", "refresh_image", "allow_cached", "cache_image",
                              "fallback_image", "auth_config"],
    "_record_service_task_failure": ["task", "digest_resolution_failed"],
    "_task_ip": ["task"],
    "_task_is_active": ["task_arn", "task"],
}


def verify(ecs: ModuleType) -> None:
    """Raises `UnsupportedEmulator` unless the functions that are hooked are as this module knows them."""
    for name, parameters in _HOOKED.items():
        hooks.require_function(ecs, name, parameters)


CREDENTIALS_NETWORK = "tagged-config-credentials"
"""The Docker network in which this machine has ECS's address of task credentials, for all stacks on it: SDKs take
credentials by plain HTTP from that address and from no other but the loopback."""
CREDENTIALS_SUBNET, CREDENTIALS_HOST = "169.254.170.0/24", "169.254.170.2"


def install(iam: Installed | None = None) -> None:
    """Hooks the installed MiniStack, if a network for its tasks is named. `iam`: where IAM is enforced."""
    network = os.environ.get(NETWORK_VARIABLE)
    if not network:
        return
    from hypercorn import asyncio as server
    from ministack.services import alb, ecs, servicediscovery, ssm

    hooks.require_version(hooks.installed_version())
    verify(ecs)
    tasks = Tasks(ecs, alb, servicediscovery, network, iam)
    ecs._build_run_kwargs = tasks.run_arguments(ecs._build_run_kwargs)
    ecs._mark_task_running = tasks.mark_running(ecs._mark_task_running)
    ecs._sync_service_targets = tasks.sync(ecs._sync_service_targets)
    ecs._remove_docker_container = tasks.remove
    if elsewhere := os.environ.get("AWS_ENDPOINT_URL_SSM"):
        ssm.resolve_parameter_value = parameters_at(elsewhere)
    ecs._resolve_container_secrets = decrypted(ecs._resolve_container_secrets, ssm)
    if iam:
        ecs._run_docker_container = with_credentials_network(ecs._run_docker_container)
        server.serve = served_at(server.serve, CREDENTIALS_HOST)
    ecs._run_docker_container = start_or_remove(ecs._run_docker_container)
    ecs._record_service_task_failure = throttled(ecs._record_service_task_failure)


class Tasks:
    """The tasks of one emulator, in one Docker network."""

    def __init__(
        self, ecs: ModuleType, alb: ModuleType, cloud_map: ModuleType, network: str, iam: Installed | None = None
    ) -> None:
        self._ecs = ecs
        self._alb = alb
        self._cloud_map = cloud_map
        self._network = network
        self._iam = iam
        self._lock = threading.Lock()
        self._reserved: dict[str, str] = {}
        """Address to the task that it was given to."""

    # === starting ===

    def run_arguments(self, original: Callable[..., dict]) -> Callable[..., dict]:
        """Adds to the arguments of docker-py's `containers.run` what the definition says."""

        def wrapped(cdef, td, env, *rest):
            arguments = original(cdef, td, env, *rest)
            task_arn = rest[4]
            client = self._ecs._get_docker()
            network = client.networks.get(self._network)
            address = self._take_address(network, task_arn)
            names = self._names(task_arn)
            arguments.pop("extra_hosts", None)
            arguments.pop("ports", None)
            # Images are built for this machine; a start that fails is not to be tried as if for another one.
            arguments.pop("platform", None)
            arguments["network"] = self._network
            arguments["networking_config"] = {
                self._network: client.api.create_endpoint_config(aliases=names, ipv4_address=address)
            }
            kept = {name: value for name, value in env.items() if not name.startswith("AWS_CONTAINER_")}
            arguments["environment"] = {**kept, **self._endpoints(), **self._credentials(td, cdef, task_arn)}
            arguments["labels"] |= {STOP_LABEL: str(cdef.get("stopTimeout", 30)), ADDRESS_LABEL: address}
            arguments |= container_limits(cdef, td)
            return arguments

        return wrapped

    def _take_address(self, network: Any, task_arn: str) -> str:
        network.reload()
        subnet = ipaddress.ip_network(network.attrs["IPAM"]["Config"][0]["Subnet"])
        used = {found["IPv4Address"].partition("/")[0] for found in network.attrs["Containers"].values()}
        with self._lock:
            self._reserved = {
                address: arn
                for address, arn in self._reserved.items()
                if arn in self._ecs._tasks and self._ecs._task_is_active(arn, self._ecs._tasks[arn])
            }
            address = lowest_free(subnet, used | set(self._reserved))
            self._reserved[address] = task_arn
        return address

    def _names(self, task_arn: str) -> list[str]:
        """The DNS names of the task's service, as in a private namespace of Cloud Map on AWS."""
        names = []
        for service_id, service in self._registries(self._service_of(self._ecs._tasks.get(task_arn) or {})):
            namespace = self._cloud_map._namespaces.get(service.get("NamespaceId"), {})
            names.append(f"{service['Name']}.{namespace.get('Name', service_id)}")
        return names

    @staticmethod
    def _endpoints() -> dict[str, str]:
        """The emulator, which listens in the tasks' network."""
        return {name: value for name, value in os.environ.items() if name.startswith("AWS_ENDPOINT_URL")}

    def _credentials(self, td: dict, cdef: dict, task_arn: str) -> dict[str, str]:
        """Where the task finds its role's credentials, once the execution role may start it."""
        if self._iam is None:
            return {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        vpc_id = self._vpc_of(task_arn)
        self._require_execution(td, cdef, task_arn, vpc_id)
        if not td.get("taskRoleArn"):
            return {}
        path = path_of(td["taskRoleArn"].rsplit("/", 1)[-1], vpc_id, task_arn.rsplit("/", 1)[-1])
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{CREDENTIALS_HOST}:{os.environ['GATEWAY_PORT']}{path}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": self._iam.tokens.of(path),
        }

    def _require_execution(self, td: dict, cdef: dict, task_arn: str, vpc_id: str) -> None:
        """Raises as ECS fails a task whose execution role lacks a permission."""
        if not td.get("executionRoleArn"):
            return
        _, _, _, region, account, _ = task_arn.split(":", 5)
        calls = self._iam.services
        try:
            session = self._iam.sessions.open(td["executionRoleArn"], ECS_TASKS, task_arn, "ecs", vpc_id)
            for secret in cdef.get("secrets", []):
                parameter = calls.parameter(secret["valueFrom"], region, account)
                calls.require(session["AccessKeyId"], "ssm:GetParameters", parameter, region)
            if group := ((cdef.get("logConfiguration") or {}).get("options") or {}).get("awslogs-group"):
                for operation in ("logs:CreateLogStream", "logs:PutLogEvents"):
                    stream = f"arn:aws:logs:{region}:{account}:log-group:{group}:log-stream:{cdef['name']}"
                    calls.require(session["AccessKeyId"], operation, stream, region)
        except (Denied, RoleRefused) as error:
            raise RuntimeError(f"ResourceInitializationError: unable to start the task with its execution role: {error}") from error

    def _vpc_of(self, task_arn: str) -> str:
        """The VPC of a service's task, or of one that was run by itself: both say their subnets."""
        task = self._ecs._tasks.get(task_arn) or {}
        service = self._service_of(task) or {}
        settings = (service.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
        subnets = settings.get("subnets") or [task.get("_subnet", "")]
        found = self._iam.sessions.vpc_of_subnets(subnets)
        if not found:
            raise RuntimeError(f"no VPC is known of {task_arn}: its network configuration names no subnet that exists")
        return found

    def mark_running(self, original: Callable[[str, dict], bool]) -> Callable[[str, dict], bool]:
        """Waits for the answer to the load balancer's health check first."""

        def wrapped(task_arn: str, task: dict) -> bool:
            service = self._service_of(task)
            for balancer in (service or {}).get("loadBalancers") or []:
                self._await_health(task_arn, task, balancer)
            return original(task_arn, task)

        return wrapped

    def _await_health(self, task_arn: str, task: dict, balancer: dict) -> None:
        group = self._alb._tgs.get(balancer.get("targetGroupArn")) or {}
        path = group.get("HealthCheckPath") or "/"
        port = int(balancer.get("containerPort", 80))
        deadline = time.monotonic() + HEALTHY_SECONDS
        while self._ecs._task_is_active(task_arn, task):
            address = self._ecs._task_ip(task)
            if address and answers(address, port, path):
                return
            if not self._is_alive(task):
                raise RuntimeError("the container ended before it answered its health check")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{address}:{port}{path} was not answered with 200 within {HEALTHY_SECONDS:.0f} s")
            time.sleep(0.05)

    def _is_alive(self, task: dict) -> bool:
        client = self._ecs._get_docker()
        containers = [client.containers.get(container) for container in list(task.get("_docker_ids") or [])]
        return all(container.status in ("created", "running") for container in containers)

    # === registering ===

    def sync(self, original: Callable[[str, dict], None]) -> Callable[[str, dict], None]:
        """Registers the service's running tasks in Cloud Map, too."""

        def wrapped(cluster_name: str, service: dict) -> None:
            self._register(service)
            original(cluster_name, service)

        return wrapped

    def _register(self, service: dict) -> None:
        running = {}
        for task in list(self._ecs._tasks.values()):
            mine = task.get("group") == f"service:{service.get('serviceName')}"
            if mine and task.get("clusterArn") == service.get("clusterArn") and task.get("lastStatus") == "RUNNING":
                running[task["taskArn"].rsplit("/", 1)[-1]] = self._ecs._task_ip(task)
        if service.get("status") != "ACTIVE":
            running = {}
        ours = service.setdefault("_registered_instances", [])
        with self._lock:
            for service_id, _ in self._registries(service):
                for gone in [name for name in ours if name not in running]:
                    self._cloud_map._deregister_instance({"ServiceId": service_id, "InstanceId": gone})
                for name, address in running.items():
                    if address and name not in ours:
                        attributes = {"AWS_INSTANCE_IPV4": address} | self._port_of(service)
                        self._cloud_map._register_instance(
                            {"ServiceId": service_id, "InstanceId": name, "Attributes": attributes}
                        )
            service["_registered_instances"] = [name for name, address in running.items() if address]

    def _port_of(self, service: dict) -> dict[str, str]:
        """The port that others call: gRPC where there is one, else HTTP."""
        key = self._ecs._resolve_td_key(service.get("taskDefinition", ""))
        definition = self._ecs._task_defs.get(key) or {}
        ports = {
            mapping.get("name"): mapping["containerPort"]
            for container in definition.get("containerDefinitions", [])
            for mapping in container.get("portMappings", [])
        }
        port = ports.get("grpc") or ports.get("http")
        return {"AWS_INSTANCE_PORT": str(port)} if port else {}

    def _service_of(self, task: dict) -> dict | None:
        cluster = (task.get("clusterArn") or "").rsplit("/", 1)[-1]
        name = (task.get("group") or "").partition("service:")[2]
        return self._ecs._services.get(f"{cluster}/{name}") if name else None

    def _registries(self, service: dict | None) -> list[tuple[str, dict]]:
        found = []
        for registry in (service or {}).get("serviceRegistries") or []:
            service_id = (registry.get("registryArn") or "").rsplit("/", 1)[-1]
            if service_id in self._cloud_map._services:
                found.append((service_id, self._cloud_map._services[service_id]))
        return found

    # === ending ===

    def remove(self, client: Any, container_or_id: Any) -> None:
        """Ends a container as its definition says, and removes it."""
        if not client or container_or_id is None:
            return
        try:
            container = container_or_id
            if isinstance(container, str):
                container = client.containers.get(container)
            container.reload()
            if container.status in ("running", "paused"):
                time.sleep(DRAIN_SECONDS)
                if container.status == "paused":
                    container.unpause()
                container.stop(timeout=int(container.labels.get(STOP_LABEL, "30")))
        except Exception as error:
            logger.warning("a container did not end as it should: %s", error)
        try:
            container.remove(v=True, force=True)
        except Exception as error:
            logger.debug("a container could not be removed: %s", error)


def start_or_remove(original: Callable[..., Any]) -> Callable[..., Any]:
    """Removes a container that could not be started."""

    def wrapped(client: Any, cdef: dict, run_kwargs: dict, **options: Any) -> Any:
        try:
            return original(client, cdef, run_kwargs, **options)
        except Exception:
            try:
                client.containers.get(run_kwargs["name"]).remove(v=True, force=True)
            except Exception as error:
                logger.debug("nothing to remove: %s", error)
            raise

    return wrapped


def with_credentials_network(original: Callable[..., Any]) -> Callable[..., Any]:
    """A container is in the credentials' network, too, before it starts. Older Docker engines take one network at a time."""

    def wrapped(client: Any, cdef: dict, run_kwargs: dict, **options: Any) -> Any:
        return original(_Client(client), cdef, run_kwargs, **options)

    return wrapped


class _Client:
    """docker-py's client, except for how a container is run."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.containers = self

    def run(self, image: str, **arguments: Any) -> Any:
        """Makes a container, connects it, and starts it."""
        arguments.pop("detach", None)
        container = self._client.containers.create(image, detach=True, **arguments)
        self._client.networks.get(CREDENTIALS_NETWORK).connect(container)
        container.start()
        return container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def served_at(original: Callable[..., Any], host: str) -> Callable[..., Any]:
    """Makes the emulator's server listen at this address of the machine, too."""

    def serve(app: Any, config: Any) -> Any:
        config.bind.append(f"{host}:{os.environ['GATEWAY_PORT']}")
        return original(app, config)

    return serve


def decrypted(original: Callable[[dict], dict], ssm: ModuleType) -> Callable[[dict], dict]:
    """The secrets of a container definition, SecureStrings as their plain text."""

    def wrapped(cdef: dict) -> dict[str, str]:
        resolved = original(cdef)
        for secret in cdef.get("secrets", []):
            source = secret.get("valueFrom", "")
            if secret.get("name") in resolved and "secretsmanager" not in source:
                resolved[secret["name"]] = str(ssm.resolve_parameter_value(source, decrypt=True))
        return resolved

    return wrapped


def parameters_at(url: str) -> Callable[..., str | None]:
    """MiniStack's function that reads a parameter by its name or ARN, for a Parameter Store that is another emulator's."""
    import boto3

    client = boto3.client(
        "ssm",
        endpoint_url=url,
        region_name=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )

    def resolve(name_or_arn: str, decrypt: bool = False) -> str | None:
        name = name_or_arn.partition(":parameter")[2] or name_or_arn
        try:
            return client.get_parameter(Name=name, WithDecryption=decrypt)["Parameter"]["Value"]
        except client.exceptions.ParameterNotFound:
            return None

    return resolve


def throttled(original: Callable[..., None]) -> Callable[..., None]:
    """A task that failed is replaced after a pause, as ECS throttles services whose tasks do not start."""

    def wrapped(task: dict, digest_resolution_failed: bool = False) -> None:
        if not task.get("_startup_stable"):
            time.sleep(RESTART_SECONDS)
        original(task, digest_resolution_failed)

    return wrapped


def container_limits(cdef: dict, td: dict) -> dict[str, Any]:
    """What a container definition says of the container, as docker-py's arguments."""
    parameters = cdef.get("linuxParameters") or {}
    arguments: dict[str, Any] = {
        "read_only": bool(cdef.get("readonlyRootFilesystem")),
        "user": cdef.get("user") or None,
        "init": bool(parameters.get("initProcessEnabled")),
        "cap_drop": (parameters.get("capabilities") or {}).get("drop") or [],
        "security_opt": ["no-new-privileges"],
        "mem_limit": f"{cdef.get('memory') or td.get('memory')}m" if cdef.get("memory") or td.get("memory") else None,
    }
    check = cdef.get("healthCheck")
    if check:
        second = 1_000_000_000
        arguments["healthcheck"] = {
            "test": check["command"],
            "interval": int(check.get("interval", 30)) * second,
            "timeout": int(check.get("timeout", 5)) * second,
            "retries": int(check.get("retries", 3)),
            "start_period": int(check.get("startPeriod", 0)) * second,
        }
    return {name: value for name, value in arguments.items() if value is not None}


def lowest_free(subnet: ipaddress.IPv4Network, used: set[str]) -> str:
    """The first free address, from the network's eleventh on."""
    for number in range(FIRST_HOST, subnet.num_addresses - 1):
        address = str(subnet.network_address + number)
        if address not in used:
            return address
    raise RuntimeError(f"no address is free in {subnet}")


def answers(address: str, port: int, path: str) -> bool:
    """Whether a GET is answered with 200."""
    connection = http.client.HTTPConnection(address, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
