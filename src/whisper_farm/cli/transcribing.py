"""What `whisper-farm transcribe` does: inputs to recordings, recordings to a farm, transcripts to files.

Without `--server` the farm is made on the spot: see `farm.LocalFarm`. Both ways are the same `Session`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from whisper_farm.cli.choosing import chosen_engine, fetch_in_words
from whisper_farm.cli.inputs import recordings
from whisper_farm.cli.machine import worker_settings
from whisper_farm.cli.outputs import Outputs, Recording, as_recordings
from whisper_farm.cli.progress import Display, open_display
from whisper_farm.cli.recognition import Wish
from whisper_farm.cli.sending import LocalSender, Request, UploadingSender
from whisper_farm.cli.session import Session, counted
from whisper_farm.cli.submit import farm_engine
from whisper_farm.errors import InvalidRequest
from whisper_farm.protocol.client import FINISHED, TranscriptionView
from whisper_farm.settings import Policy, data_folder
from whisper_farm.worker.messages import Fetching
from whisper_farm.worker.notices import Notice

STOPPED = 130
MENTIONED = 3
MOST_RECORDINGS = 10_000
"""What a worker's claim can name."""
SAID = frozenset({"child_died", "unreachable", "reachable"})
LOCAL_FOLDER = "transcribe"
"""Below the data folder: the state of `transcribe`, apart from that of a server on this machine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command line asks for."""

    words: Sequence[str]
    wish: Wish
    machine: Mapping[str, Any]
    output_dir: str
    formats: Sequence[str]
    skip_existing: bool
    server: str | None
    token: str | None


def run(plan: Plan, quiet: bool, verbose: bool) -> int:
    """Transcribe everything that a command line names; returns the exit code."""
    inputs = recordings(plan.words)
    with open_display(quiet, verbose) as display, terminated_as_interrupted():
        for unusable in inputs.unusable:
            display.error(unusable.error.message)
        outputs = Outputs.into(plan.output_dir, plan.formats)
        wanted = _without_existing(as_recordings(inputs.files), outputs, display) if plan.skip_existing else None
        todo = as_recordings(inputs.files) if wanted is None else wanted
        failed = len(inputs.unusable)
        if todo:
            failed += _elsewhere(plan, todo, outputs, display) if plan.server else _here(plan, todo, outputs, display)
        if len(inputs.files) + len(inputs.unusable) > 1:
            total = len(inputs.files) + len(inputs.unusable)
            display.note(f"{total - failed} of {counted(total, 'recording')} transcribed.")
    return 1 if failed else 0


def _without_existing(todo: Sequence[Recording], outputs: Outputs, display: Display) -> list[Recording]:
    for recording in todo:
        if outputs.there(recording.stem):
            display.note(f"{recording.name}: skipped, {outputs.named(recording.stem)} is there")
    return [recording for recording in todo if not outputs.there(recording.stem)]


def _elsewhere(plan: Plan, todo: Sequence[Recording], outputs: Outputs, display: Display) -> int:
    from whisper_farm.cli.connection import connect

    engine, model = farm_engine(plan.wish)
    request = Request(plan.wish.options(engine, model), plan.wish.chunk_seconds)
    stopping = threading.Event()
    with connect(plan.server, plan.token) as farm:
        farm.server()
        session = Session(farm, UploadingSender(farm, request, stopping), outputs, display, stopping)
        return _run(session, todo, display, "the farm goes on with what it has; the same command fetches it")


class Notices:
    """Shows what the worker of this command has to say; the daily work is seen in the progress."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def __call__(self, notice: Notice) -> None:
        if notice.kind == "model_fetching":
            news = Fetching.model_validate(notice.data)
            self._display.begin(f"model {news.model}", fetch_in_words(news.done_bytes, news.total_bytes))
        elif notice.kind in SAID:
            self._display.note(notice.message)
        if notice.kind in ("model_ready", "model_unavailable"):
            self._display.end(f"model {notice.data.get('model')}")


def _here(plan: Plan, todo: Sequence[Recording], outputs: Outputs, display: Display) -> int:
    from whisper_farm.farm import LocalFarm

    if len(todo) > MOST_RECORDINGS:
        raise InvalidRequest(f"{len(todo)} recordings are too many for one command; give {MOST_RECORDINGS} at a time.")
    notices = Notices(display)
    engine, model = chosen_engine(plan.wish, plan.machine, display)
    request = Request(plan.wish.options(engine, model), plan.wish.chunk_seconds, plan.machine.get("compute_type", ""))
    worker = worker_settings(engines=(engine,), models=(model,), cuts=True, **plan.machine)
    stopping = threading.Event()
    with LocalFarm(data_folder() / LOCAL_FOLDER, Policy(), worker, notices) as farm:
        sender = LocalSender(farm.client, request, stopping, farm.point_to)
        session = Session(farm.client, sender, outputs, display, stopping)

        def all_sent(views: list[TranscriptionView]) -> None:
            if unfinished := [view.id for view in views if view.state not in FINISHED]:
                farm.work_on(unfinished)

        def written(view: TranscriptionView) -> None:
            if view.state == "done":
                farm.drop_audio(view.id)

        session.all_sent, session.written, session.check = all_sent, written, farm.check
        session.workers = lambda made: f"1 worker with {counted(farm.slots(), 'slot')}"
        session.warns = False
        return _run(session, todo, display, "what is done is kept; the same command goes on from there")


def _run(session: Session, todo: Sequence[Recording], display: Display, kept: str) -> int:
    """Run a session; returns how many recordings failed. Ctrl-C says what is kept, and goes on its way."""
    try:
        session.run(todo)
    except KeyboardInterrupt:
        so_far = "; ".join(session.unfinished()[:MENTIONED])
        display.close()
        display.error(f"stopped{f' with {so_far}' if so_far else ''}: {kept}.")
        raise KeyboardInterrupt("said") from None
    return session.failed


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does; a second of either ends it on the spot."""

    def stop(number: int, frame: FrameType | None) -> None:
        for name in ("SIGINT", "SIGTERM"):
            signal.signal(getattr(signal, name), lambda *_: os._exit(STOPPED))
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
