"""Waits until ECS runs the applied task definitions. Distinguishes a rollout that failed from one that ECS rolled back."""

from __future__ import annotations

import time
from typing import Any, Mapping, Sequence

from launcher.errors import StackError
from launcher.progress import Step

LIMIT_SECONDS = 900
PAUSE_SECONDS = 5
# ECS may describe the service as it was before the apply for this time.
SETTLE_SECONDS = 30


def wait(
    ecs: Any, outputs: Mapping, step: Step, *,
    limit_seconds: float = LIMIT_SECONDS, pause_seconds: float = PAUSE_SECONDS, settle_seconds: float = SETTLE_SECONDS,
) -> None:
    """Until every service runs what was applied, and nothing else.

    A service whose deployment of this very definition has failed already is given a new one, once: Terraform sees no
    difference there, and ECS starts no more tasks by itself.
    """
    cluster, expected = outputs["cluster_name"], outputs["task_definition_arns"]
    started = time.monotonic()
    first = _describe(ecs, cluster, expected)
    seen = {service["serviceName"] for service in first if _primary(service).get("taskDefinition") == expected[service["serviceName"]]}
    failed_before = _restart_failed(ecs, cluster, [service for service in first if service["serviceName"] in seen], step)
    while True:
        waiting = {}
        for service in _describe(ecs, cluster, expected):
            name = service["serviceName"]
            primary = _primary(service)
            if primary and primary["id"] == failed_before.get(name):
                waiting[name] = "a new deployment begins"  # ECS still describes the one that failed
            elif primary.get("taskDefinition") == expected[name]:
                seen.add(name)
                if primary.get("rolloutState") == "FAILED":
                    raise StackError(
                        f"{name} did not start, and there was nothing to go back to: {_reason(ecs, cluster, service, primary)} "
                        "Fix the cause and run the same command again: it starts the tasks anew"
                    )
                if not _is_steady(service, primary):
                    waiting[name] = f"{service.get('runningCount', 0)} of {service.get('desiredCount', 0)} tasks run"
            elif name in seen or time.monotonic() - started >= settle_seconds:
                failed = next((d for d in service["deployments"] if d.get("rolloutState") == "FAILED"), primary)
                raise StackError(
                    f"{name} was rolled back to version {_version(ecs, primary['taskDefinition'])}: the applied "
                    f"{_short(expected[name])} did not start: {_reason(ecs, cluster, service, failed)} "
                    "Everything else is of the new version: fix the cause and deploy again, or run `make rollback`"
                )
            else:
                waiting[name] = "the rollout has not begun"
        if not waiting:
            step.detail = ", ".join(f"{name} runs {_short(arn)}" for name, arn in sorted(expected.items()))
            return
        text = "; ".join(f"{name}: {what}" for name, what in sorted(waiting.items()))
        if time.monotonic() - started > limit_seconds:
            raise StackError(
                f"not steady after {limit_seconds:.0f} s ({text}): ECS goes on by itself; see the events of the service, "
                "and run the same command again to wait once more"
            )
        step.activity(text)
        time.sleep(pause_seconds)


def _restart_failed(ecs: Any, cluster: str, services: Sequence[Mapping], step: Step) -> dict[str, str]:
    """Starts a new deployment for services whose deployment has failed. Returns the id of the failed one by name."""
    failed = {}
    for service in services:
        primary = _primary(service)
        if primary.get("rolloutState") == "FAILED":
            name = service["serviceName"]
            step.activity(f"{name}: its deployment of {_short(primary['taskDefinition'])} had failed, and is tried again")
            ecs.update_service(cluster=cluster, service=name, forceNewDeployment=True)
            failed[name] = primary["id"]
    return failed


def _describe(ecs: Any, cluster: str, expected: Mapping[str, str]) -> list[dict]:
    answer = ecs.describe_services(cluster=cluster, services=sorted(expected))
    missing = set(expected) - {service["serviceName"] for service in answer["services"]}
    if missing:
        raise StackError(f"ECS knows no service {', '.join(sorted(missing))} in {cluster}: removed by someone else? Deploy again")
    return answer["services"]


def _primary(service: Mapping) -> dict:
    return next((d for d in service.get("deployments", []) if d.get("status", "PRIMARY") == "PRIMARY"), {})


def _is_steady(service: Mapping, primary: Mapping) -> bool:
    return (
        len(service["deployments"]) == 1
        and primary.get("rolloutState", "COMPLETED") == "COMPLETED"
        and service.get("runningCount", 0) >= service.get("desiredCount", 0)
    )


def _reason(ecs: Any, cluster: str, service: Mapping, deployment: Mapping) -> str:
    """ECS's description of a deployment, and the reason why its last task stopped, if it is still known."""
    said = [deployment.get("rolloutStateReason", "")]
    if not said[0] and service.get("events"):
        said = [service["events"][0].get("message", "")]
    stopped = ecs.list_tasks(cluster=cluster, serviceName=service["serviceName"], desiredStatus="STOPPED")["taskArns"]
    if stopped:
        for task in ecs.describe_tasks(cluster=cluster, tasks=stopped[:1])["tasks"]:
            said.append(task.get("stoppedReason", ""))
            said += [container["reason"] for container in task.get("containers", []) if container.get("reason")]
    text = " ".join(f"{part.rstrip('.')}." for part in said if part)
    return f"{text} See its log group." if text else "see its log group."


def _version(ecs: Any, arn: str) -> str:
    containers = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]["containerDefinitions"]
    return f"{containers[0]['image'].rpartition(':')[2]} ({_short(arn)})"


def _short(arn: str) -> str:
    return arn.rpartition("/")[2]
