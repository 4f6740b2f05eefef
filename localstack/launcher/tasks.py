"""The services as ECS tasks of the emulator: waits for them, replaces one, rolls them, and changes their number."""

from __future__ import annotations

import time
from typing import Any

from . import aws, containers, emulator
from .errors import StackError
from .layout import Layout
from .progress import Progress, Step
from .settings import CONFIG_SERVICE, ORDER_SERVICE, Replica, Settings

STEADY_SECONDS = 180


class Tasks:
    """The ECS services of one stack whose services are containers."""

    def __init__(self, layout: Layout, settings: Settings, progress: Progress) -> None:
        self._layout = layout
        self._settings = settings
        self._progress = progress
        self._ecs = aws.client(settings, "ecs")
        self._cluster = settings.output("ecs_cluster")

    def ensure(self) -> None:
        """Waits until the wanted number of tasks runs the applied definitions."""
        for service, count in ((CONFIG_SERVICE, self._settings.config_replicas), (ORDER_SERVICE, 1)):
            with self._progress.step(service) as step:
                self._want(service, count)
                self._await_steady(service, step)

    def scale(self, count: int) -> None:
        """Changes the number of config-service's tasks."""
        with self._progress.step(CONFIG_SERVICE) as step:
            self._want(CONFIG_SERVICE, count)
            self._await_steady(CONFIG_SERVICE, step)
        self._settings.config_replicas = count

    def roll(self) -> None:
        """Replaces all tasks as a deployment does: new ones first."""
        for service in (CONFIG_SERVICE, ORDER_SERVICE):
            with self._progress.step(service) as step:
                self._ecs.update_service(cluster=self._cluster, service=service, forceNewDeployment=True)
                self._await_steady(service, step)

    def restart(self, replica: Replica) -> None:
        """Ends one task. Another one replaces it and gets its address."""
        with self._progress.step(replica.name) as step:
            container = containers.container_at(self._settings.docker_network, replica.address)
            self._ecs.stop_task(cluster=self._cluster, task=containers.task_of(container), reason="restarted by hand")
            # ECS replaces a task that was stopped; the emulator does so when the number is set again.
            count = self._describe(replica.service)["desiredCount"]
            self._ecs.update_service(cluster=self._cluster, service=replica.service, desiredCount=count)
            self._await_steady(replica.service, step)

    def await_replacements(self) -> None:
        """Waits until the services have replaced ended tasks."""
        for service in (CONFIG_SERVICE, ORDER_SERVICE):
            with self._progress.step(service) as step:
                self._await_steady(service, step)

    def _want(self, service: str, count: int) -> None:
        if self._describe(service)["desiredCount"] != count:
            self._ecs.update_service(cluster=self._cluster, service=service, desiredCount=count)

    def _await_steady(self, service: str, step: Step) -> None:
        """Waits until the wanted number of tasks of one deployment runs, each with its container."""
        started = time.monotonic()
        while True:
            emulator.require_running(self._layout)
            found = self._describe(service)
            deployments = found["deployments"]
            failed = [one for one in deployments if one.get("rolloutState") == "FAILED"]
            if failed:
                raise StackError(f"{service} was rolled back: {failed[0].get('rolloutStateReason')}{self._why(service)}")
            primary = deployments[0] if len(deployments) == 1 else {}
            is_steady = primary.get("rolloutState") == "COMPLETED" and found["runningCount"] == found["desiredCount"]
            running = containers.addresses(self._settings.docker_network)[service] if is_steady else []
            if is_steady and len(running) == found["desiredCount"]:
                self._settings.refresh_addresses()
                step.detail = ", ".join(running)
                return
            if time.monotonic() - started > STEADY_SECONDS:
                raise StackError(
                    f"{service} is not steady after {STEADY_SECONDS} s: {found['runningCount']} of {found['desiredCount']} tasks"
                    f" run{self._why(service)}",
                    self._layout.log(emulator.NAME),
                )
            time.sleep(0.2)

    def _why(self, service: str) -> str:
        stopped = self._ecs.list_tasks(cluster=self._cluster, serviceName=service, desiredStatus="STOPPED")["taskArns"]
        if not stopped:
            return ""
        tasks = self._ecs.describe_tasks(cluster=self._cluster, tasks=stopped[-1:])["tasks"]
        return f" ({tasks[0].get('stoppedReason')})" if tasks else ""

    def _describe(self, service: str) -> dict[str, Any]:
        found = self._ecs.describe_services(cluster=self._cluster, services=[service])["services"]
        if not found:
            raise StackError(f"ECS has no service named {service}")
        return found[0]
