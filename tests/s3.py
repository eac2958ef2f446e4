"""S3 for tests: moto's server within the process, which takes any credentials, or a real one that runs already."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer

from potstill import bucket

NAME = "shop"
KEY, SECRET = "a-key", "a-very-secret-secret"


@contextmanager
def given(endpoint: str, key: str = KEY, secret: str = SECRET) -> Iterator[None]:
    """What a user's environment says of a store."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", endpoint)
        environment.setenv("AWS_REGION", "us-east-1")
        environment.setenv("AWS_ACCESS_KEY_ID", key)
        environment.setenv("AWS_SECRET_ACCESS_KEY", secret)
        bucket._client.cache_clear()
        yield
    bucket._client.cache_clear()


@contextmanager
def served() -> Iterator[str]:
    """A server with an empty bucket, which the environment then names; its endpoint."""
    if running := os.environ.get("TEST_S3_ENDPOINT"):
        with given(running, os.environ["TEST_S3_KEY"], os.environ["TEST_S3_SECRET"]):
            _empty()
            yield running
        return
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    try:
        with given(endpoint):
            _empty()
            yield endpoint
    finally:
        server.stop()


def _empty() -> None:
    store = boto3.resource("s3").Bucket(NAME)
    store.create()
    store.objects.all().delete()
