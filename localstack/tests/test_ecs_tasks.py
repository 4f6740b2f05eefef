"""ECS tasks as containers: what the extension makes of a task definition, and that it fits the pinned emulator."""

from __future__ import annotations

import ipaddress
import threading
import types
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer

import ecs_tasks
import hooks

DEFINITION = {
    "name": "config-service",
    "user": "65532:65532",
    "readonlyRootFilesystem": True,
    "stopTimeout": 60,
    "linuxParameters": {"initProcessEnabled": True, "capabilities": {"add": [], "drop": ["ALL"]}},
    "healthCheck": {"command": ["CMD", "/app/config-service", "--healthcheck"], "interval": 10, "timeout": 5, "retries": 3},
}
SERVICE = {
    "serviceName": "config-service",
    "clusterArn": "arn:aws:ecs:us-east-1:000000000000:cluster/c",
    "status": "ACTIVE",
    "taskDefinition": "family:1",
    "serviceRegistries": [{"registryArn": "arn:aws:servicediscovery:us-east-1:000000000000:service/srv-1"}],
}


class CloudMap(types.SimpleNamespace):
    """As much of the emulator's Cloud Map as is called."""

    def __init__(self) -> None:
        super().__init__(_services={"srv-1": {"Name": "config-service", "NamespaceId": "ns-1"}}, instances={})

    def _register_instance(self, data: dict) -> None:
        self.instances[data["InstanceId"]] = data["Attributes"]

    def _deregister_instance(self, data: dict) -> None:
        self.instances.pop(data["InstanceId"])


def emulated(cloud_map: CloudMap, tasks: dict) -> ecs_tasks.Tasks:
    definition = {"containerDefinitions": [{"portMappings": [
        {"name": "http", "containerPort": 8080}, {"name": "grpc", "containerPort": 50051}]}]}
    ecs = types.SimpleNamespace(
        _tasks=tasks,
        _task_defs={"family:1": definition},
        _resolve_td_key=lambda name: name,
        _task_ip=lambda task: task["ip"],
    )
    return ecs_tasks.Tasks(ecs, types.SimpleNamespace(), cloud_map, "network")


def task(name: str, ip: str, status: str = "RUNNING") -> dict:
    return {"taskArn": f"arn:aws:ecs:us-east-1:000000000000:task/c/{name}", "clusterArn": SERVICE["clusterArn"],
            "group": "service:config-service", "lastStatus": status, "ip": ip}


class Contract(unittest.TestCase):
    def test_the_installed_emulator_fits(self) -> None:
        from ministack.services import ecs

        ecs_tasks.verify(ecs)

    def test_another_emulator_is_refused(self) -> None:
        with self.assertRaises(hooks.UnsupportedEmulator):
            ecs_tasks.verify(types.ModuleType("ecs"))


class Definition(unittest.TestCase):
    def test_a_container_is_confined_as_the_definition_says(self) -> None:
        found = ecs_tasks.container_limits(DEFINITION, {"memory": "1024"})
        self.assertTrue(found["read_only"] and found["init"])
        self.assertEqual((found["user"], found["cap_drop"], found["mem_limit"]), ("65532:65532", ["ALL"], "1024m"))
        self.assertEqual(found["healthcheck"]["test"], ["CMD", "/app/config-service", "--healthcheck"])
        self.assertEqual(found["healthcheck"]["interval"], 10_000_000_000)

    def test_what_a_definition_does_not_say_is_not_invented(self) -> None:
        found = ecs_tasks.container_limits({"name": "x"}, {})
        self.assertFalse(found["read_only"])
        self.assertFalse({"user", "mem_limit", "healthcheck"} & set(found))


class Secrets(unittest.TestCase):
    def test_a_secure_string_reaches_the_container_in_plain_text(self) -> None:
        ssm = types.SimpleNamespace(resolve_parameter_value=lambda name, decrypt=False: name if decrypt else "ENCRYPTED:x")
        resolve = ecs_tasks.decrypted(lambda _: {"A": "ENCRYPTED:x", "B": "of Secrets Manager"}, ssm)
        arn = "arn:aws:ssm:us-east-1:000000000000:parameter/a"
        found = resolve({"secrets": [{"name": "A", "valueFrom": arn},
                                     {"name": "B", "valueFrom": "arn:aws:secretsmanager:us-east-1:0:secret:b"}]})
        self.assertEqual(found, {"A": arn, "B": "of Secrets Manager"})


class Addresses(unittest.TestCase):
    SUBNET = ipaddress.ip_network("172.30.0.0/24")

    def test_the_lowest_free_one_is_taken(self) -> None:
        self.assertEqual(ecs_tasks.lowest_free(self.SUBNET, set()), "172.30.0.11")
        self.assertEqual(ecs_tasks.lowest_free(self.SUBNET, {"172.30.0.11", "172.30.0.13"}), "172.30.0.12")

    def test_a_full_network_is_an_error(self) -> None:
        every = {str(address) for address in self.SUBNET}
        with self.assertRaisesRegex(RuntimeError, "no address is free"):
            ecs_tasks.lowest_free(self.SUBNET, every)


class Registration(unittest.TestCase):
    def test_cloud_map_has_the_running_tasks(self) -> None:
        cloud_map, tasks = CloudMap(), {}
        register = emulated(cloud_map, tasks).sync(lambda *_: None)
        service = dict(SERVICE)
        tasks["1"], tasks["2"] = task("one", "172.30.0.11"), task("two", "172.30.0.12", "ACTIVATING")
        register("c", service)
        self.assertEqual(cloud_map.instances, {"one": {"AWS_INSTANCE_IPV4": "172.30.0.11", "AWS_INSTANCE_PORT": "50051"}})
        tasks["1"]["lastStatus"], tasks["2"]["lastStatus"] = "STOPPED", "RUNNING"
        register("c", service)
        self.assertEqual(list(cloud_map.instances), ["two"])
        service["status"] = "INACTIVE"
        register("c", service)
        self.assertEqual(cloud_map.instances, {})

    def test_who_was_taken_out_by_hand_stays_out(self) -> None:
        cloud_map, tasks = CloudMap(), {"1": task("one", "172.30.0.11")}
        register = emulated(cloud_map, tasks).sync(lambda *_: None)
        service = dict(SERVICE)
        register("c", service)
        cloud_map.instances.clear()
        register("c", service)
        self.assertEqual(cloud_map.instances, {}, "the fault suite hides a task so")


class Health(unittest.TestCase):
    def test_only_200_is_an_answer(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path == "/readyz" else 503)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            port = server.server_address[1]
            self.assertTrue(ecs_tasks.answers("127.0.0.1", port, "/readyz"))
            self.assertFalse(ecs_tasks.answers("127.0.0.1", port, "/"))
        finally:
            server.shutdown()
            server.server_close()
        self.assertFalse(ecs_tasks.answers("127.0.0.1", port, "/readyz"), "nothing listens")


if __name__ == "__main__":
    unittest.main()
