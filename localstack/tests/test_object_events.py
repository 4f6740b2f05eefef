"""What EventBridge is sent about objects: a real emulator, a real rule, and what its target receives."""

from __future__ import annotations

import json
import unittest

from tests.received import Received
from tests.running_emulator import RunningEmulator


class ObjectEvents(unittest.TestCase):
    """The object of each event, with its version."""

    @classmethod
    def setUpClass(cls) -> None:
        emulator = RunningEmulator()
        cls.addClassCleanup(emulator.stop)
        cls.s3 = emulator.client("s3")
        for bucket in ("versioned", "plain"):
            cls.s3.create_bucket(Bucket=bucket)
            cls.s3.put_bucket_notification_configuration(
                Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}})
        cls.s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
        cls.events = Received(emulator, {
            "source": ["aws.s3"],
            "detail-type": ["Object Created", "Object Deleted"],
            "detail": {"object": {"key": [{"prefix": "tenants/"}, {"prefix": "global/"}]}},
        })

    def test_a_new_version_is_named(self) -> None:
        put = self.s3.put_object(Bucket="versioned", Key="tenants/A/a b.json", Body=b"12345")
        event = self.events.next(self)
        self.assertEqual((event["source"], event["detail-type"]), ("aws.s3", "Object Created"))
        self.assertEqual(event["resources"], ["arn:aws:s3:::versioned"])
        found = event["detail"]["object"]
        self.assertEqual(list(found), ["key", "size", "etag", "version-id", "sequencer"])
        self.assertEqual((found["key"], found["size"], found["version-id"]), ("tenants/A/a b.json", 5, put["VersionId"]))
        self.assertEqual(found["etag"], put["ETag"].strip('"'))

    def test_each_put_has_its_own_version_and_a_later_sequencer(self) -> None:
        versions = [self.s3.put_object(Bucket="versioned", Key="global/twice", Body=body)["VersionId"] for body in (b"1", b"2")]
        # Not in order, as on AWS.
        found = sorted((self.events.next(self)["detail"]["object"] for _ in versions), key=lambda one: one["sequencer"])
        self.assertEqual([one["version-id"] for one in found], versions)

    def test_a_delete_marker_is_a_version(self) -> None:
        self.s3.put_object(Bucket="versioned", Key="global/gone", Body=b"1")
        self.events.next(self)
        marker = self.s3.delete_object(Bucket="versioned", Key="global/gone")["VersionId"]
        detail = self.events.next(self)["detail"]
        self.assertEqual(detail["deletion-type"], "Delete Marker Created")
        self.assertEqual(list(detail["object"]), ["key", "etag", "version-id", "sequencer"])
        self.assertEqual((detail["object"]["version-id"], detail["object"]["etag"]), (marker, "d41d8cd98f00b204e9800998ecf8427e"))

    def test_a_version_that_is_deleted_is_named(self) -> None:
        version = self.s3.put_object(Bucket="versioned", Key="global/erased", Body=b"1")["VersionId"]
        self.events.next(self)
        self.s3.delete_object(Bucket="versioned", Key="global/erased", VersionId=version)
        detail = self.events.next(self)["detail"]
        self.assertEqual((detail["deletion-type"], detail["object"]["version-id"]), ("Permanently Deleted", version))
        self.assertNotIn("size", detail["object"])

    def test_without_versioning_there_is_none(self) -> None:
        self.s3.put_object(Bucket="plain", Key="global/a", Body=b"1")
        self.assertEqual(list(self.events.next(self)["detail"]["object"]), ["key", "size", "etag", "sequencer"])

    def test_an_event_of_another_service_stays_as_it_is(self) -> None:
        import object_events

        seen = []
        dispatch = object_events._with_version(lambda event, view=None: seen.append(event))
        event = {"Source": "aws.ssm", "Detail": json.dumps({"object": {}})}
        dispatch(event)
        self.assertIs(seen[0], event)


if __name__ == "__main__":
    unittest.main()
