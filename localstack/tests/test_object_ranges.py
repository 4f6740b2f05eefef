"""Parts of versions of objects, over the emulator's HTTP."""

from __future__ import annotations

import unittest

from botocore.exceptions import ClientError

from tests.running_emulator import RunningEmulator


class ObjectRanges(unittest.TestCase):
    """Of the version that is asked for, not of the current one."""

    def test_parts_of_a_version_that_was_replaced(self) -> None:
        emulator = RunningEmulator()
        self.addCleanup(emulator.stop)
        s3 = emulator.client("s3")
        s3.create_bucket(Bucket="ranges")
        s3.put_bucket_versioning(Bucket="ranges", VersioningConfiguration={"Status": "Enabled"})
        first = s3.put_object(Bucket="ranges", Key="k", Body=b"0123456789", ChecksumAlgorithm="SHA256")["VersionId"]
        s3.put_object(Bucket="ranges", Key="k", Body=b"another")
        for wanted, part, said in [("0-0", b"0", "0-0"), ("7-", b"789", "7-9"), ("-2", b"89", "8-9"), ("3-99", b"3456789", "3-9")]:
            found = s3.get_object(Bucket="ranges", Key="k", VersionId=first, Range=f"bytes={wanted}", ChecksumMode="ENABLED")
            self.assertEqual((found["Body"].read(), found["ContentRange"]), (part, f"bytes {said}/10"))
            self.assertEqual(found["ResponseMetadata"]["HTTPStatusCode"], 206)
        whole = s3.get_object(Bucket="ranges", Key="k", VersionId=first, ChecksumMode="ENABLED")
        self.assertEqual((whole["Body"].read(), "ChecksumSHA256" in whole), (b"0123456789", True))
        with self.assertRaises(ClientError) as refused:
            s3.get_object(Bucket="ranges", Key="k", VersionId=first, Range="bytes=10-")
        self.assertEqual(refused.exception.response["Error"]["Code"], "InvalidRange")
