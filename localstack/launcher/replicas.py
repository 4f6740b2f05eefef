"""The services as local processes: start, register in Cloud Map and at the ALB, deregister, stop, roll."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from typing import Mapping

from . import aws, build, credentials, emulator, network, processes
from .errors import StackError
from .layout import Layout
from .processes import ProcessRecord
from .progress import Progress
from .running import STOP_SECONDS
from .settings import CONFIG_SERVICE, REGION, Replica, Settings

READY_SECONDS = 60
DRAIN_SECONDS = 1.0


class Replicas:
    """Starts and stops the replicas of one stack that has an emulator and a Terraform apply."""

    def __init__(self, layout: Layout, settings: Settings, progress: Progress) -> None:
        self._layout = layout
        self._settings = settings
        self._progress = progress
        self._cloud_map = aws.client(settings, "servicediscovery")
        self._load_balancer = aws.client(settings, "elbv2")
        self._credential = aws.refresh_credential(settings)
        self.started: list[ProcessRecord] = []
        """The processes that this command started, for the clean-up after a failure."""

    def ensure(self) -> None:
        """Makes every wanted replica run the current program and settings. Does not touch one that already does."""
        wanted = {replica.name for replica in self._settings.replicas}
        for name, record in processes.recorded(self._layout).items():
            if name != emulator.NAME and name not in wanted:
                self._stop_surplus(record)
        for replica in self._settings.replicas:
            record = processes.find(self._layout, replica.name)
            with self._progress.step(replica.name) as step:
                if record and record.running and record.fingerprint == self._fingerprint(replica):
                    step.detail = f"{replica.http_address} unchanged (pid {record.pid})"
                    continue
                if record:
                    self._stop(replica, record)
                started = self._start(replica)
                step.detail = f"{replica.http_address} (pid {started.pid})"

    def restart(self, replica: Replica) -> None:
        """Stops one replica as a deployment does, and starts it again."""
        with self._progress.step(replica.name) as step:
            record = processes.find(self._layout, replica.name)
            if record:
                self._stop(replica, record)
            started = self._start(replica)
            step.detail = f"{replica.http_address} restarted (pid {started.pid})"

    def _start(self, replica: Replica) -> ProcessRecord:
        record = processes.spawn(
            self._layout,
            replica.name,
            [str(build.binary(self._settings, replica.service))],
            self.environment(replica),
            self._fingerprint(replica),
        )
        self.started.append(record)
        try:
            # Registered as soon as it accepts refreshes: from then on, changes must reach what it caches.
            self._await(record, lambda: network.accepts(replica.address, replica.refresh or replica.http), "listen")
            self._register_in_cloud_map(replica)
            self._await(record, lambda: network.is_ready(replica.http_address), "become ready")
            self._load_balancer.register_targets(**self._target(replica))
        except BaseException:
            processes.stop(self._layout, record, STOP_SECONDS)
            with contextlib.suppress(*aws.AwsError):
                self._deregister(replica)
            raise
        return record

    def _await(self, record: ProcessRecord, condition, what: str) -> None:
        log = self._layout.log(record.name)

        def settled() -> bool:
            emulator.require_running(self._layout)
            return not record.running or condition()

        if not processes.wait_until(settled, READY_SECONDS, interval=0.02):
            raise StackError(f"{record.name} did not {what} within {READY_SECONDS} s", log)
        if not record.running:
            raise StackError(f"{record.name} ended at its start", log)

    def _stop(self, replica: Replica, record: ProcessRecord) -> None:
        self._deregister(replica)
        if record.running:
            time.sleep(DRAIN_SECONDS)
        processes.stop(self._layout, record, STOP_SECONDS)

    def _stop_surplus(self, record: ProcessRecord) -> None:
        """Stops a replica that the settings no longer want (fewer replicas than before)."""
        most = dataclasses.replace(self._settings, config_replicas=100)
        self._stop(next(replica for replica in most.replicas if replica.name == record.name), record)

    def _register_in_cloud_map(self, replica: Replica) -> None:
        self._cloud_map.register_instance(
            ServiceId=self._service_id(replica),
            InstanceId=replica.name,
            Attributes={
                "AWS_INSTANCE_IPV4": replica.address,
                "AWS_INSTANCE_PORT": str(replica.grpc or replica.http),
            },
        )

    def _deregister(self, replica: Replica) -> None:
        self._load_balancer.deregister_targets(**self._target(replica))
        try:
            self._cloud_map.deregister_instance(ServiceId=self._service_id(replica), InstanceId=replica.name)
        except self._cloud_map.exceptions.InstanceNotFound:
            pass

    def _service_id(self, replica: Replica) -> str:
        return self._settings.output(
            "config_service_id" if replica.service == CONFIG_SERVICE else "order_service_id"
        )

    def _target(self, replica: Replica) -> dict:
        group = "config_target_group_arn" if replica.service == CONFIG_SERVICE else "order_target_group_arn"
        return {
            "TargetGroupArn": self._settings.output(group),
            "Targets": [{"Id": replica.address, "Port": replica.http}],
        }

    def environment(self, replica: Replica, keys: Mapping[str, str] | None = None) -> dict[str, str]:
        """All that a replica sees: its settings, four variables of the person's own, and where its credentials are, or these
        keys."""
        inherited = ("PATH", "HOME", "RUST_LOG", "RUST_BACKTRACE")
        environment = {name: os.environ[name] for name in inherited if name in os.environ}
        environment |= {
            "TAGGED_CONFIG_HTTP_ADDR": replica.http_address,
            "TAGGED_CONFIG_JWKS_URL": self._settings.output("jwks_url"),
            "TAGGED_CONFIG_ISSUER": self._settings.output("issuer"),
            "TAGGED_CONFIG_AUDIENCE": self._settings.output("client_id"),
            "TAGGED_CONFIG_INSTANCE_ID": replica.name,
        }
        if replica.service != CONFIG_SERVICE:
            endpoints = ",".join(f"http://{config.address}:{config.grpc}" for config in self._settings.config)
            return environment | {"TAGGED_CONFIG_ENDPOINTS": endpoints}
        # Without its variable config-service does not know a tag's keys, or no tenant is the operators'.
        optional = {
            "TAGGED_CONFIG_OPERATOR_TENANT": self._settings.optional("operator_tenant"),
            "TAGGED_CONFIG_BLOB_BUCKET": self._settings.optional("blob_bucket"),
            "TAGGED_CONFIG_SECRET_ROOT": self._settings.optional("secrets_arn"),
        }
        return environment | {name: value for name, value in optional.items() if value} | {
            "TAGGED_CONFIG_GRPC_ADDR": f"{replica.address}:{replica.grpc}",
            "TAGGED_CONFIG_REFRESH_ADDR": f"{replica.address}:{replica.refresh}",
            "TAGGED_CONFIG_TABLE": self._settings.output("table_name"),
            "TAGGED_CONFIG_JOURNAL_TABLE": self._settings.output("journal_table_name"),
            "TAGGED_CONFIG_HISTORY_TABLE": self._settings.output("history_table_name"),
            "TAGGED_CONFIG_HISTORY_RETENTION_DAYS": "90",
            "TAGGED_CONFIG_PARAMETER_ROOT": self._settings.output("parameter_root"),
            # A share of the account's 40 reads a second, as on AWS.
            "TAGGED_CONFIG_PARAMETER_CALLS_PER_SECOND": str(max(1, 30 // self._settings.config_replicas)),
            # Far above the second that the demo allows: a change that it sees in time came by push, not by expiry.
            "TAGGED_CONFIG_CACHE_TTL": "5m",
            "TAGGED_CONFIG_CACHE_BYTES": str(256 * 1024 * 1024),
            "TAGGED_CONFIG_REFRESH_CREDENTIAL": self._credential,
            # Where a task finds the others: each has an address of its own, and all have this port.
            "TAGGED_CONFIG_CLOUD_MAP_NAMESPACE": self._settings.output("cloud_map_namespace"),
            "TAGGED_CONFIG_CLOUD_MAP_SERVICE": CONFIG_SERVICE,
            "TAGGED_CONFIG_REFRESH_PORT": str(replica.refresh),
            "AWS_REGION": REGION,
            **self._settings.endpoints(),
            **(keys or credentials.of_task(self._settings, CONFIG_SERVICE, replica.name)),
        }

    def _fingerprint(self, replica: Replica) -> str:
        """A hash of program and settings, which shows whether a running replica is still the wanted one."""
        settings = {name: value for name, value in self.environment(replica).items() if name not in ("PATH", "HOME")}
        program = build.digest(build.binary(self._settings, replica.service))
        return hashlib.sha256(f"{program}{json.dumps(settings, sort_keys=True)}".encode()).hexdigest()

