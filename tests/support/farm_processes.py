"""A farm of real processes: `whisper-farm serve` and `whisper-farm worker`, to be killed, frozen and started again.

What they print goes to files in the farm's folder. Nothing waits without a limit; every process is gone at the end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
import psutil
from sqlalchemy import select

from support import dying_worker, processes
from support.dying_worker import Point
from support.ports import free_port
from support.tone_audio import tone_speech, tone_words
from support.warm_start import WarmProcess, can_start
from whisper_farm.audio.sound import SAMPLE_RATE
from whisper_farm.client.farm import FarmClient
from whisper_farm.errors import FarmError, ServerUnreachable
from whisper_farm.protocol.client import FINISHED, AttemptView, JobView, Submission, TranscriptionView
from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.tables import attempts, jobs, transcriptions
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Transcript

T = TypeVar("T")
PROGRAM = (sys.executable, "-m", "whisper_farm")
PATIENCE_SECONDS = 90.0
"""Longer than anything takes on a loaded machine."""
LEASE_SECONDS = 1.2
CHUNK_SECONDS = 3.0
LONG_TALK_CHUNK_SECONDS = 1.5
"""So that there are more than a hundred: a chunk spans pauses, and what nobody could take for speech is all pauses."""
SETTINGS = {
    "WHISPER_FARM_LEASE_SECONDS": str(LEASE_SECONDS),
    "WHISPER_FARM_HEARTBEAT_SECONDS": "0.3",
    "WHISPER_FARM_RETRY_BASE_SECONDS": "0.05",
    "WHISPER_FARM_RETRY_MAX_SECONDS": "0.2",
    "WHISPER_FARM_MAX_ATTEMPTS": "20",
}
"""Leases so short that a loaded machine may lose some: jobs have attempts enough for that."""
WORKER_SETTINGS = {"WHISPER_FARM_WORKER_REQUEST_TIMEOUT_SECONDS": "5"}


def until(look: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """Look until there is something to see."""
    give_up_at, pause = time.monotonic() + seconds, 0.01
    while not (found := look()):
        assert time.monotonic() < give_up_at, f"not within {seconds:g} s: {what}"
        time.sleep(pause)
        pause = min(pause * 1.1, 0.1)  # a look at a farm costs several milliseconds of its processor
    return found


@dataclass(frozen=True)
class Recording:
    """A file, and every word in it with its true start."""

    path: Path
    words: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, path: Path, words: list[str], gap: float = 0.3) -> Recording:
        """Speak the words into a WAV file, short and with a pause after each, so that no cut goes through one."""
        spoken = tone_speech(words, gap, word_seconds=0.1)
        with wave.open(str(path), "wb") as out:
            out.setparams((1, 2, SAMPLE_RATE, 0, "NONE", "not compressed"))
            out.writeframes((spoken.audio * 32767).astype("<i2").tobytes())
        return cls(path, tuple((word.text.strip(), word.start) for word in spoken.words))

    @classmethod
    def long(cls, path: Path, words: int, gap: float = 0.3, first: int = 0) -> Recording:
        """A recording of so many different words."""
        return cls.of(path, tone_words(words, first), gap)


class Process:
    """One process of the farm. `settings` are environment variables."""

    def __init__(
        self, log: Path, arguments: list[str], settings: Mapping[str, str], program: Sequence[str] = PROGRAM
    ) -> None:
        self.log = log
        log.touch()  # who looks at once finds it
        environment = {**os.environ, **settings}
        self._process: subprocess.Popen[bytes] | WarmProcess
        if program == PROGRAM and can_start(environment):
            self._process = WarmProcess(arguments, log, environment)
            return
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [*program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        return self._process.pid

    def said(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """`kill -9`."""
        self._process.kill()
        self._process.wait(PATIENCE_SECONDS)

    def terminate(self) -> None:
        """Ask it to end in good order."""
        self._process.terminate()

    def ended(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for its end; returns the exit status."""
        return self._process.wait(seconds)

    def freeze(self) -> None:
        """Stop it and all its children as a laptop's lid does."""
        self._signal_all("SIGSTOP")

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all("SIGCONT")

    def children(self, role: str = "") -> list[psutil.Process]:
        """Its child processes; of one role (`recogniser`, `cutter`) if it is named."""
        return processes.children(role, self.pid)

    def kill_child(self, role: str) -> bool:
        """`kill -9` one child of that role; False if there is none."""
        for child in self.children(role):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
                return True
        return False

    def _signal_all(self, name: str) -> None:
        number = getattr(signal, name)
        for pid in (self.pid, *(child.pid for child in self.children())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


class Farm:
    """A server that may be killed and started again at the same address, on the same data. Use it in a `with`."""

    def __init__(
        self, folder: Path, database: str | None = None, settings: Mapping[str, str] | None = None, port: int = 0
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.server: Process
        self.client: FarmClient
        self._database = database
        self._settings = SETTINGS | dict(settings or {})
        self._workers = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start()
        self.client = self._stack.enter_context(FarmClient(self.url, self.token))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self.server.kill()

    @property
    def token(self) -> str:
        """The admin's token."""
        return (self.data / "admin-token").read_text().strip()

    def start(self, wait: bool = True, **settings: str) -> None:
        """Start the server, for the first time or again, perhaps with other settings."""
        arguments = ["serve", "--port", str(self.port), "--data", str(self.data), "--log_format", "json"]
        if self._database:
            arguments += ["--database", self._database]
        self.server = Process(self.folder / "server.log", arguments, {**self._settings, **settings})
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until the server answers."""
        until(self._answers, "the server answers")

    def _answers(self) -> bool:
        assert self.server.status is None, self.server.said()[-2000:]
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz", timeout=5, trust_env=False, verify=False).is_success
        return False

    @contextmanager
    def worker(
        self, *flags: str, at: str | None = None, dies: Point | None = None, **settings: str
    ) -> Iterator[Process]:
        """A worker with two slots, for tones unless flags say otherwise, while the block runs; killed afterwards."""
        process = self.start_worker(*flags, at=at, dies=dies, **settings)
        try:
            yield process
        finally:
            with contextlib.suppress(OSError):
                process.thaw()
            process.kill()

    def start_worker(self, *flags: str, at: str | None = None, dies: Point | None = None, **settings: str) -> Process:
        """A worker, which is the caller's to end; or it ends itself at the point where it `dies`."""
        self._workers += 1
        name = f"worker{self._workers}"
        arguments = ["worker", "--server", at or self.url, "--token", self.token, "--name", name]
        if "--engine" not in flags:
            arguments += ["--engine", "tones"]
        if "--slots" not in flags:
            arguments += ["--slots", "2", "--batch_size", "2"]
        program = (*dying_worker.PROGRAM, dies) if dies else PROGRAM
        return Process(self.folder / f"{name}.log", [*arguments, *flags], {**WORKER_SETTINGS, **settings}, program)

    def submit(
        self, recording: Recording, model: str = "instant", key: str | None = None, label: str = "",
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> str:  # fmt: skip
        """Ask for its transcription; returns the id. The same key with another label gives it to others."""
        asked = Submission(
            name=recording.path.name,
            upload_id=self.client.upload(recording.path),
            options=RecognitionOptions(engine="tones", model=model),
            chunk_seconds=chunk_seconds,
            key=key,
            label=label,
        )
        return self.client.submit(asked).id

    def look(self, transcription: str) -> TranscriptionView | None:
        """How it is; None while the server does not answer."""
        try:
            return self.client.get(transcription)
        except FarmError as error:
            if passing(error):
                return None
            raise

    def progress(self, transcription: str, **at_least: float) -> None:
        """Wait until these numbers of its progress are reached."""

        def reached() -> bool:
            view = self.look(transcription)
            return view is not None and all(getattr(view.progress, name) >= number for name, number in at_least.items())

        until(reached, f"{at_least} of {transcription}")

    def finished(self, transcription: str, seconds: float = PATIENCE_SECONDS) -> Transcript:
        """Wait until it is done; its transcript."""

        def look() -> TranscriptionView | None:
            view = self.look(transcription)
            return view if view and view.state in FINISHED else None

        view = until(look, f"{transcription} is finished", seconds)
        assert view.state == "done", f"{view.state}: {view.error} {view.gaps}"
        return self.client.transcript(transcription)

    def jobs(self, transcription: str) -> list[JobView]:
        """All its jobs that its transcript waits for."""
        return [job for job in self.client.jobs(transcription) if job.kind != "peaks"]

    @property
    def database(self) -> str:
        """The URL of its database."""
        return self._database or f"sqlite:///{self.data / 'farm.db'}"

    def look_inside(self, work: Callable[[Transaction], T]) -> T:
        """Read in its database, beside the server."""
        database = Database.open(self.database)
        try:
            return database.read(work)
        finally:
            database.close()

    def every_row(self) -> dict[str, list[str]]:
        """Every row of the queue, written out; workers' signs of life are not among them."""
        tables = (transcriptions, jobs, attempts)
        queries = {table.name: select(table).order_by(*table.primary_key) for table in tables}
        return self.look_inside(
            lambda tx: {name: [repr(tuple(row)) for row in tx.connection.execute(queries[name])] for name in queries}
        )

    def every_file(self) -> dict[str, bytes]:
        """All audio and results it keeps, byte for byte."""
        blobs = self.data / "blobs"
        return {str(path.relative_to(blobs)): path.read_bytes() for path in blobs.rglob("*") if path.is_file()}

    def attempts(self, transcription: str, state: str) -> list[AttemptView]:
        """All attempts at its jobs that ended so."""
        return [each for job in self.jobs(transcription) for each in job.attempts if each.state == state]


def passing(error: FarmError) -> bool:
    """Whether the farm is away for a moment, or its database is."""
    return isinstance(error, ServerUnreachable) or error.status >= 500


def essence(transcript: Transcript) -> object:
    """What must not differ between a disturbed run and another: words, times, what is covered. Not who did it."""
    return transcript.segments, transcript.language, transcript.duration, transcript.coverage


@dataclass(frozen=True)
class Known:
    """A recording and the transcript of a run that nothing disturbed."""

    recording: Recording
    transcript: Transcript

    def same(self, transcript: Transcript) -> bool:
        """Whether another run came to the same, word for word and time for time."""
        return essence(transcript) == essence(self.transcript)


def assert_says(transcript: Transcript, recording: Recording) -> None:
    """Every word is there, in order, where it was spoken, and nothing else."""
    heard = [(word.text.strip(), word.start) for segment in transcript.segments for word in segment.words]
    assert [word for word, _ in heard] == [word for word, _ in recording.words]
    for (word, start), (_, true_start) in zip(heard, recording.words, strict=True):
        assert abs(start - true_start) < 0.02, f"{word} at {start}, spoken at {true_start}"
    assert transcript.coverage.complete


def assert_done_once(jobs: list[JobView]) -> None:
    """Every job is done, by one attempt; nothing is left running."""
    assert jobs
    for job in jobs:
        states = [attempt.state for attempt in job.attempts]
        assert job.state == "done"
        assert states.count("done") == 1 or (not states and job.kind == "transcribe"), states
        assert "live" not in states


@contextmanager
def busy_cores() -> Iterator[None]:
    """Every core of this machine has something better to do while the block runs."""
    burn = [sys.executable, "-c", "while True: pass"]
    burning = [subprocess.Popen(burn) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait(PATIENCE_SECONDS)
