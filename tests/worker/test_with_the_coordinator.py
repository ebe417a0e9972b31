"""Workers and the real coordinator: a recording goes in, its transcript comes out, whatever dies on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.served_farm import serve
from support.work_here import PATIENCE, recording, same, until, worker_process, worker_settings, working

from whisper_farm.client.farm import FarmClient
from whisper_farm.settings import Policy, ServerSettings
from whisper_farm.transcript.options import RecognitionOptions


@contextmanager
def coordinator(data: Path, policy: Policy) -> Iterator[tuple[str, str]]:
    """The address and the admin token of a coordinator while the block runs."""
    addresses: list[str] = []
    ready, stop = threading.Event(), threading.Event()

    def serving() -> None:
        serve(ServerSettings(port=0, data=data), policy, lambda url: (addresses.append(url), ready.set()), stop)

    thread = threading.Thread(target=serving)
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield addresses[0], (data / "admin-token").read_text().strip()
    finally:
        stop.set()
        thread.join(PATIENCE)


def test_a_recording_is_transcribed_though_everything_dies_once(tmp_path: Path) -> None:
    data, truth = recording(120)
    talk = tmp_path / "talk.wav"
    talk.write_bytes(data)
    options = RecognitionOptions(engine="tones", model="x20")
    policy = Policy(lease_seconds=1, heartbeat_seconds=0.2, retry_base_seconds=0.1)

    async def scene(client: FarmClient, url: str, token: str) -> str:
        settings = worker_settings(url, token=token, cuts=True, slots=2, batch_size=2)
        view = client.submit_file(talk, options=options, chunk_seconds=5)
        with worker_process(settings) as killed:
            await until(lambda: client.get(view.id).progress.chunks_done > 1, "the first chunks are done")
            killed.kill()
        async with working(settings) as worker:
            await until(lambda: worker.said("job_finished"), "another worker goes on")
            pid = worker.said("model_ready")[0].data["pid"]
            assert isinstance(pid, int)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: client.get(view.id).state == "done", "the transcription is done")
        return view.id

    with coordinator(tmp_path / "farm", policy) as (url, token), FarmClient(url, token) as client:
        transcript = client.transcript(asyncio.run(scene(client, url, token)))
    words = [(word.text.strip(), word.start) for segment in transcript.segments for word in segment.words]
    same(words, truth)
    assert transcript.coverage.complete
