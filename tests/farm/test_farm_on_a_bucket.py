"""A real server and a real worker on a bucket: audio goes between worker and bucket, and around the coordinator."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from support.crowds import PATIENT
from support.farm_processes import CHUNK_SECONDS, Farm, Recording, assert_done_once, assert_says, until
from support.fault_proxy import FaultProxy

from whisper_farm.client.farm import FarmClient
from whisper_farm.coordinator.readiness import ID_KEY
from whisper_farm.transcript.options import RecognitionOptions

THROUGH_THE_COORDINATOR = {"source", "audio", "upload"}
NO_KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_ENDPOINT_URL": ""}
"""All that a worker and a client know of the bucket is what the coordinator signs for them."""


def test_a_recording_goes_through_a_bucket_and_no_audio_through_the_coordinator(tmp_path: Path, bucket: Any) -> None:
    recording = Recording.long(tmp_path / "talk.wav", 60)
    options = RecognitionOptions(engine="tones", model="instant")
    with (
        Farm(tmp_path / "farm", settings=PATIENT | {"WHISPER_FARM_BLOBS": "s3://audio/farm"}) as farm,
        FaultProxy(farm.port) as line,
        FarmClient(line.url, farm.token) as client,
        farm.worker(at=line.url, **NO_KEYS),
    ):
        made = client.submit_file(recording.path, options=options, chunk_seconds=CHUNK_SECONDS).id
        assert_says(farm.finished(made), recording)
        jobs = farm.jobs(made)
        assert_done_once(jobs)
        chunks = len(jobs) - 1
        until(lambda: all(job.state == "done" for job in farm.client.jobs(made)), "the listening copy")
        kept = {"sources": 1, "chunks": chunks, "transcripts": 1, "listening": 1, "results": chunks + 1}  # and peaks
        assert stored(bucket) == kept
        assert not THROUGH_THE_COORDINATOR & line.calls.keys(), line.calls
        assert not any(path.is_file() for path in (farm.data / "blobs").rglob("*"))
        client.delete(made)
        assert stored(bucket) == {}


def stored(bucket: Any) -> Counter[str]:
    """How many blobs of each kind the bucket holds."""
    found = bucket.list_objects_v2(Bucket="audio").get("Contents", [])
    kinds = Counter(str(each["Key"]).split("/")[1] for each in found)
    del kinds[ID_KEY]
    return kinds
