"""Builds and publishes images and functions' packages, once for each version. Never overwrites one."""

from __future__ import annotations

import base64
import shutil
import subprocess

import boto3
from botocore.exceptions import ClientError
from launcher import build, containers
from launcher import commands as tools
from launcher.errors import StackError
from launcher.layout import REPOSITORY
from launcher.progress import Progress

from target import Stack

IMAGES = {
    "config-service": "services/config-service/Dockerfile",
    "order-service": "services/order-service/Dockerfile",
    "loadtest": "loadtest/Dockerfile",
}
"""Those that have a repository are built: there is none for the load test where there is no runner."""
FUNCTIONS = ("invalidator", "jwks-mirror")
FUNCTIONS_FILE = "lambdas/Dockerfile"
PLATFORMS = {"ARM64": "linux/arm64", "X86_64": "linux/amd64"}


def publish(stack: Stack, tag: str, progress: Progress) -> None:
    """Builds and pushes what is not there yet."""
    outputs = stack.outputs()
    platform = PLATFORMS[stack.variable("architecture", "ARM64")]
    log = stack.folder / "build.log"
    for program, url in outputs["repository_urls"].items():
        with progress.step(f"image {program}") as step:
            if _image_exists(stack, program, tag):
                step.detail = "is there"
                continue
            _sign_in(url, stack.region)
            tools.run(
                image_command(program, f"{url}:{tag}", tag, platform), step=step, log=log,
                failure=f"building {program} failed", timeout_seconds=7200, cwd=REPOSITORY,
            )
            step.detail = "pushed"
    with progress.step("functions") as step:
        s3 = boto3.client("s3", region_name=stack.region)
        if all(_object_exists(s3, outputs["artifacts_bucket"], f"{tag}/{name}.zip") for name in FUNCTIONS):
            step.detail = "are there"
            return
        folder = stack.folder / "functions"
        shutil.rmtree(folder, ignore_errors=True)
        tools.run(
            functions_command(str(folder), platform), step=step, log=log, failure="building the functions failed",
            timeout_seconds=7200, cwd=REPOSITORY,
        )
        for name in FUNCTIONS:
            archive = folder / f"{name}.zip"
            build.pack(folder / name, archive)
            s3.upload_file(str(archive), outputs["artifacts_bucket"], f"{tag}/{name}.zip")
        step.detail = "uploaded"


def image_command(program: str, image: str, tag: str, platform: str) -> list[str]:
    """Builds and pushes one image, from the bases that this machine's variables name."""
    return [
        "docker", "buildx", "build", "--platform", platform, "--file", IMAGES[program], "--tag", image, "--provenance=false",
        *containers.arguments(tag), "--push", ".",
    ]


def functions_command(folder: str, platform: str) -> list[str]:
    """Builds the functions' programs into a folder, from the same bases."""
    builder = f"BUILDER={containers.base('BUILDER')}"
    return [
        "docker", "buildx", "build", "--platform", platform, "--file", FUNCTIONS_FILE, "--build-arg", builder, "--output", folder, ".",
    ]


def require(stack: Stack, outputs: dict, tag: str) -> None:
    """Refuses a version of which an image or a package is missing."""
    s3 = boto3.client("s3", region_name=stack.region)
    missing = [program for program in outputs["repository_urls"] if not _image_exists(stack, program, tag)]
    missing += [name for name in FUNCTIONS if not _object_exists(s3, outputs["artifacts_bucket"], f"{tag}/{name}.zip")]
    if missing:
        raise StackError(f"version {tag} is not there any more: {', '.join(missing)}")


def before(stack: Stack, tag: str) -> str:
    """The version that was pushed last before this one. For when no record says which version ran."""
    repository = f"{stack.prefix}/config-service"
    ecr = boto3.client("ecr", region_name=stack.region)
    images = [
        (image["imagePushedAt"], name)
        for page in ecr.get_paginator("describe_images").paginate(repositoryName=repository)
        for image in page["imageDetails"]
        for name in image.get("imageTags", [])
    ]
    tags = [name for _, name in sorted(images)]
    if tag not in tags or tags.index(tag) == 0:
        raise StackError(f"no version was pushed before {tag}; there are: {', '.join(tags) or 'none'} (choose one with TAG=...)")
    return tags[tags.index(tag) - 1]


def _image_exists(stack: Stack, program: str, tag: str) -> bool:
    ecr = boto3.client("ecr", region_name=stack.region)
    try:
        ecr.describe_images(repositoryName=f"{stack.prefix}/{program}", imageIds=[{"imageTag": tag}])
        return True
    except ecr.exceptions.ImageNotFoundException:
        return False


def _object_exists(s3, bucket: str, key: str) -> bool:
    try:
        s3.head_object(Bucket=bucket, Key=key)
        return True
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404):
            return False
        raise


def _sign_in(url: str, region: str) -> None:
    answer = boto3.client("ecr", region_name=region).get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(answer["authorizationToken"]).decode().partition(":")
    command = ["docker", "login", "--username", user, "--password-stdin", url.split("/")[0]]
    result = subprocess.run(command, input=password, text=True, capture_output=True)
    if result.returncode != 0:
        raise StackError(f"docker login failed: {result.stderr.strip()}")
