"""Rollouts as ECS describes them, one answer after the other."""

import io
import unittest
from unittest import mock

from launcher.errors import StackError
from launcher.progress import Progress, Step

import rollout

OLD = "arn:aws:ecs:eu-west-1:111111111111:task-definition/tagged-config-dev-config-service:7"
NEW = "arn:aws:ecs:eu-west-1:111111111111:task-definition/tagged-config-dev-config-service:8"
OUTPUTS = {"cluster_name": "tagged-config-dev", "task_definition_arns": {"config-service": NEW}}
TRIPPED = "ECS deployment circuit breaker: tasks failed to start."


def deployment(identity: str, definition: str, state: str, *, status: str = "PRIMARY", reason: str = "") -> dict:
    return {"id": identity, "status": status, "taskDefinition": definition, "rolloutState": state, "rolloutStateReason": reason}


def service(*deployments: dict, running: int = 2, events: tuple[str, ...] = ()) -> dict:
    return {"serviceName": "config-service", "desiredCount": 2, "runningCount": running, "deployments": list(deployments),
            "events": [{"message": event} for event in events]}


class RolloutTest(unittest.TestCase):
    def setUp(self) -> None:
        self.ecs = mock.Mock()
        self.ecs.list_tasks.return_value = {"taskArns": ["task"]}
        self.ecs.describe_tasks.return_value = {"tasks": [{"stoppedReason": "ResourceInitializationError: unable to pull secrets"}]}
        self.ecs.describe_task_definition.return_value = {
            "taskDefinition": {"containerDefinitions": [{"image": "registry/config-service:0a1b2c3d4e5f"}]}
        }

    def wait(self, *answers: dict, settle_seconds: float = 0, limit_seconds: float = 20) -> str:
        """The last answer is given for ever."""
        left = list(answers)
        self.ecs.describe_services.side_effect = lambda **_: {"services": [left.pop(0) if len(left) > 1 else left[0]]}
        step = Step(Progress(io.StringIO()), "tasks")
        rollout.wait(self.ecs, OUTPUTS, step, limit_seconds=limit_seconds, pause_seconds=0.001, settle_seconds=settle_seconds)
        return step.detail

    def test_slow_but_fine(self) -> None:
        done = deployment("b", NEW, "COMPLETED")
        detail = self.wait(
            service(deployment("a", OLD, "COMPLETED")),  # described as before the apply
            service(deployment("b", NEW, "IN_PROGRESS"), deployment("a", OLD, "COMPLETED", status="ACTIVE"), running=3),
            service(deployment("b", NEW, "IN_PROGRESS"), running=1),
            service(done, deployment("a", OLD, "COMPLETED", status="ACTIVE"), running=3),
            service(done, running=1),
            service(done),
            settle_seconds=20,
        )
        self.assertIn("runs tagged-config-dev-config-service:8", detail)
        self.ecs.update_service.assert_not_called()

    def test_a_rollback_is_no_success_though_its_failed_deployment_has_left_the_list(self) -> None:
        with self.assertRaisesRegex(StackError, r"rolled back to version 0a1b2c3d4e5f .*service:7.*rolling back to 7.*pull secrets"):
            self.wait(
                service(deployment("b", NEW, "IN_PROGRESS"), deployment("a", OLD, "COMPLETED", status="ACTIVE")),
                service(deployment("c", OLD, "COMPLETED"), events=("(deployment c) rolling back to 7.",)),
                settle_seconds=20,
            )

    def test_a_rollback_says_why_the_failed_deployment_failed(self) -> None:
        failed = deployment("b", NEW, "FAILED", status="ACTIVE", reason=TRIPPED)
        with self.assertRaisesRegex(StackError, f"rolled back to version .*{TRIPPED}"):
            self.wait(
                service(deployment("b", NEW, "IN_PROGRESS")),
                service(deployment("c", OLD, "IN_PROGRESS", reason="rolling back"), failed),
            )

    def test_what_never_runs_the_applied_definition_is_no_success(self) -> None:
        with self.assertRaisesRegex(StackError, "rolled back"):
            self.wait(service(deployment("a", OLD, "COMPLETED")))

    def test_a_first_rollout_that_fails_had_nothing_to_go_back_to(self) -> None:
        with self.assertRaisesRegex(StackError, f"nothing to go back to: {TRIPPED} ResourceInitializationError"):
            self.wait(
                service(deployment("a", NEW, "IN_PROGRESS"), running=0),
                service(deployment("a", NEW, "FAILED", reason=TRIPPED), running=0),
            )
        self.ecs.update_service.assert_not_called()

    def test_what_had_failed_before_is_tried_again_once(self) -> None:
        failed = service(deployment("a", NEW, "FAILED", reason=TRIPPED), running=0)
        self.wait(failed, failed, service(deployment("b", NEW, "IN_PROGRESS"), running=0), service(deployment("b", NEW, "COMPLETED")))
        self.ecs.update_service.assert_called_once_with(
            cluster="tagged-config-dev", service="config-service", forceNewDeployment=True
        )

    def test_what_fails_again_is_a_failure(self) -> None:
        with self.assertRaisesRegex(StackError, "nothing to go back to"):
            self.wait(
                service(deployment("a", NEW, "FAILED"), running=0), service(deployment("b", NEW, "IN_PROGRESS"), running=0),
                service(deployment("b", NEW, "FAILED"), running=0),
            )
        self.ecs.update_service.assert_called_once()

    def test_no_end_says_how_far_it_is(self) -> None:
        with self.assertRaisesRegex(StackError, "config-service: 1 of 2 tasks run"):
            self.wait(service(deployment("b", NEW, "IN_PROGRESS"), running=1), limit_seconds=0)


if __name__ == "__main__":
    unittest.main()
