"""What is particular to a bucket: how it is opened, and how it says no.

A bucket's credentials, region and address come from the usual `AWS_…` environment variables.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import S3Store

from whisper_farm.errors import StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

RETRIES: RetryConfig = {"max_retries": 4, "retry_timeout": timedelta(seconds=20)}
REFUSED = re.compile(r"status code: (400|401|403|405)\b|Received redirect without LOCATION")
"""How the library tells of answers that will be the same next time."""
PASSING = re.compile(r"<Code>RequestTimeout</Code>")
REASON = re.compile(r"<Code>([^<]+)</Code>.*?<Message>([^<]*)</Message>", re.DOTALL)


def open_bucket(bucket: str, prefix: str, endpoint: str | None = None) -> S3Store:
    """A bucket, by its address or by that of `endpoint`. Nothing is sent to it yet."""
    address = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    client: ClientConfig = {
        "allow_http": address.startswith("http://"),
        "connect_timeout": timedelta(seconds=5),
        "read_timeout": timedelta(seconds=30),
        "timeout": timedelta(hours=1),
    }
    own: S3Config = {} if endpoint is None else {"endpoint": endpoint}
    try:
        return S3Store(bucket, prefix=prefix or None, config=own, client_options=client, retry_config=RETRIES)
    except (BaseError, ValueError) as error:
        raise StoreUnavailable(f"The bucket {bucket} cannot be used: {first_line(error)}") from error


def refusal(error: Exception) -> str | None:
    """Why a bucket has refused, in its own words where it says any; None if the error is no refusal."""
    told = str(error)
    if not REFUSED.search(told) or PASSING.search(told):
        return None
    reason = REASON.search(told)
    return first_line(error) if reason is None else f"{reason[1]}: {reason[2]}"


def first_line(error: Exception) -> str:
    """What the library says, without its causes."""
    return str(error).strip().split("\n", 1)[0]
