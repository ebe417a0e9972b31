"""An S3 server for every room's tests: moto's, on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

RESET_SECONDS = 20.0


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """The address of an S3 server on loopback."""
    from moto.server import ThreadedMotoServer  # heavy, and few tests need it

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto_url: str) -> Iterator[Any]:
    """A client of that server, and an environment that leads the farm to its bucket `audio`."""
    import boto3

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "an-id")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
        environment.setenv("AWS_REGION", "us-east-1")
        environment.setenv("AWS_ENDPOINT_URL", moto_url)
        client = boto3.client("s3", endpoint_url=moto_url, region_name="us-east-1")
        httpx.post(f"{moto_url}/moto-api/reset", timeout=RESET_SECONDS)
        client.create_bucket(Bucket="audio")
        yield client
        client.close()
