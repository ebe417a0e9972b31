"""`./run bench strangers`: how a farm is with one attacker of each kind at work, in bounded loops on loopback.

A server and a worker with the tones engine are processes of their own, and so are the attackers. Measured are the worst
answer to whether the server is well, the memory of the server, and how long an honest recording of three seconds takes,
alone and beside the attackers: as they are, and with attackers that give way. Those stand for attackers on machines of
their own, whose processor time is not the farm's. Then each attacker works alone: the worst answer, and the processor
time of the server and of the worker. What the attackers do is refused or bounded; the counts say how often each did it.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import httpx
import psutil
from support.farm_processes import Farm, Recording, until
from support.hand_worker import HandWorker

from bench.measure import PeakMemory
from whisper_farm.client.farm import FarmClient
from whisper_farm.protocol.client import FINISHED, Submission
from whisper_farm.transcript.options import RecognitionOptions

SECONDS, EACH_SECONDS = 30.0, 5.0
"""All attackers together, and each alone."""
STALL_SECONDS = 10.0
PAUSE_SECONDS = 0.25
"""Between two deeds of one attacker: the machine is shared with what is measured."""
ALONE, BESIDE = 5, 10
"""Honest recordings, one after the other."""
AIM_HEALTH_SECONDS, AIM_MEMORY_MB, AIM_TIMES = 0.25, 100.0, 2.0
TONES = RecognitionOptions(engine="tones", model="instant")
ORDINARY = {"WHISPER_FARM_LEASE_SECONDS": "20", "WHISPER_FARM_HEARTBEAT_SECONDS": "5", "WHISPER_FARM_MAX_ATTEMPTS": "3"}


class Attackers:
    """One method each: a deed that is done again and again."""

    def __init__(self, url: str, tokens: dict[str, str], folder: Path) -> None:
        self.url = url
        self._tokens = tokens
        self._folder = folder
        self._held: list[object] = []
        self._worker = HandWorker(url, tokens["worker"], "liar")
        self._worker.register()
        self._many = FarmClient(url, tokens["many"])
        self._hostile = FarmClient(url, tokens["hostile"])

    def _client(self, token: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False, verify=False)

    def sends_a_head_of_a_megabyte(self) -> None:
        with self._client() as nobody:
            nobody.get("/healthz", headers={"x": "a" * (1 << 20)})

    def guesses_tokens(self) -> None:
        with self._client(f"wf_admin_{time.monotonic_ns()}") as guesser:
            guesser.get("/api/tokens")

    def guesses_passwords(self) -> None:
        with self._client() as nobody:
            body = {"name": "admin", "password": "guess"}
            nobody.post("/app/session", json=body, headers={"whisper-farm-app": "1"})

    def asks_whether_it_is_ready(self) -> None:
        with self._client() as nobody:
            nobody.get("/readyz")

    def sends_nonsense_as_a_user(self) -> None:
        with self._client(self._tokens["many"]) as user:
            user.post("/api/transcriptions", content=b'{"name": [' + b"0," * 30_000 + b"0]}")

    def sends_nonsense_as_a_worker(self) -> None:
        body = b'{"worker_id": "liar", "completions": [' + b"0," * 2_000_000 + b"0]}"
        self._worker.http.post("/api/work/complete", content=body)

    def leaves_uploads_unfinished(self) -> None:
        def slowly() -> Iterator[bytes]:
            yield bytes(1 << 20)
            time.sleep(STALL_SECONDS)

        with self._client(self._tokens["hostile"]) as user:
            made = user.post("/api/uploads", json={"name": "a", "size": 8 << 20})
            if made.is_success:
                user.put(f"/api/uploads/{made.json()['upload_id']}", content=slowly())

    def opens_streams(self) -> None:
        user = self._client(self._tokens["many"])
        self._held.append(user.send(user.build_request("GET", "/api/events"), stream=True))

    def submits_recordings(self) -> None:
        self._submit(self._many, self._folder / "long.wav")

    def submits_hostile_recordings(self) -> None:
        for name in ("crowded.mp3", "empty.flac", "noise.mp3"):
            self._submit(self._hostile, self._folder / name)

    def hands_in_lies(self) -> None:
        for claim in self._worker.claim():
            self._worker.finish(claim, engine="faster-whisper")
            self._worker.told("release", tokens=[claim["token"]])

    def _submit(self, client: FarmClient, file: Path) -> None:
        client.submit(Submission(name=file.name, upload_id=client.upload(file), options=TONES))

    def deeds(self) -> list[Callable[[], None]]:
        """All that is public here, but for this."""
        named = [name for name in dir(self) if not name.startswith("_") and name not in ("deeds", "url")]
        return [getattr(self, name) for name in named]


def attack(url: str, tokens: dict[str, str], folder: Path, line: Connection) -> None:
    """A process of attackers, one thread each: those work whose names it is sent, until it is sent none.

    At each change it sends how often each did its deed since the one before.
    """
    attackers, done, at_work = Attackers(url, tokens, folder), Counter[str](), set[str]()

    def again_and_again(deed: Callable[[], None]) -> None:
        while True:
            time.sleep(PAUSE_SECONDS)
            if deed.__name__ in at_work:
                with suppress(Exception):
                    deed()
                done[deed.__name__] += 1

    for deed in attackers.deeds():
        threading.Thread(target=again_and_again, args=(deed,), daemon=True).start()
    line.send([deed.__name__ for deed in attackers.deeds()])
    while (wanted := line.recv()) is not None:
        line.send(dict(done))
        done.clear()
        at_work.clear()
        at_work.update(wanted)
    os._exit(0)


class AtWork:
    """Attackers in a process of their own; none works until it is told to."""

    def __init__(self, farm: Farm, tokens: dict[str, str], folder: Path) -> None:
        self._line, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process
        self._process = process(target=attack, args=(farm.url, tokens, folder, there), daemon=True)
        self._process.start()
        assert self._line.poll(60)
        self.names: list[str] = self._line.recv()

    def let(self, *names: str) -> Counter[str]:
        """Let these work and no others; how often each did its deed before."""
        self._line.send(names)
        assert self._line.poll(60)
        return Counter(self._line.recv())

    def give_way(self) -> None:
        """From now on they have what processor time the farm leaves."""
        idle: int = getattr(psutil, "IDLE_PRIORITY_CLASS", 19)  # Windows has names for it
        psutil.Process(self._process.pid).nice(idle)

    def close(self) -> None:
        """End them all."""
        self._line.send(None)
        self._process.join(10)
        self._process.kill()


class Health:
    """Asks whether the server is well, all the while."""

    def __init__(self, url: str) -> None:
        self.answers: list[float] = []
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._over.set()
        self._thread.join(60)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as client:
            while not self._over.wait(0.05):
                started = time.perf_counter()
                assert client.get("/healthz").is_success
                self.answers.append(time.perf_counter() - started)


class Delay(NamedTuple):
    """Of one recording, from the first byte of its upload: until it is accepted, begun, finished, and seen."""

    accepted: float
    begun: float
    finished: float
    seen: float


def delays(client: FarmClient, file: Path, count: int) -> list[Delay]:
    """How long one recording after the other takes."""
    found = []
    for _ in range(count):
        started = time.time()
        made = client.submit(Submission(name=file.name, upload_id=client.upload(file), options=TONES)).id
        until(lambda made=made: client.get(made).state in FINISHED, "the honest recording")
        view, seen = client.get(made), time.time()
        assert view.state == "done"
        moments = (view.created_at, view.started_at or 0, view.finished_at or 0, seen)
        found.append(Delay(*(moment - started for moment in moments)))
    return found


def steps(taken: list[Delay]) -> str:
    """The median moment of each step."""
    return ", ".join(f"{statistics.median(step):.2f}" for step in zip(*taken, strict=True))


def recordings_in(folder: Path) -> Path:
    """An honest recording of three seconds, one of a minute, and what nobody would record."""
    from support import recordings

    Recording.long(folder / "long.wav", 150)
    tag = b"".join(b"TXXX\0\0\0\x08\0\0\0" + b"%07d" % number for number in range(50_000))
    size = bytes((len(tag) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    (folder / "crowded.mp3").write_bytes(b"ID3\x03\0\0" + size + tag + bytes(4000))
    silence = recordings.noise(1.0) * 0
    (folder / "empty.flac").write_bytes(recordings.encoded(silence.repeat(600), "flac", "flac", 16_000))
    (folder / "noise.mp3").write_bytes(os.urandom(1 << 20))
    return Recording.long(folder / "honest.wav", 8).path


def spent(process: psutil.Process) -> float:
    """Processor time of a process and its children, those included that have ended."""
    seconds = 0.0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            seconds += sum(one.cpu_times())
    return seconds


class Alone(NamedTuple):
    """What one attacker alone did in its time: how often, the worst answer, and who spent how much on it."""

    deeds: int
    worst_seconds: float
    server_seconds: float
    worker_seconds: float


def one_by_one(at_work: AtWork, farm: Farm, worker: psutil.Process) -> dict[str, Alone]:
    """Each attacker alone, after what the others left is done."""
    found = {}
    server = psutil.Process(farm.server.pid)
    for name in at_work.names:
        at_work.let()
        time.sleep(1)
        health, before = Health(farm.url), (spent(server), spent(worker))
        at_work.let(name)
        time.sleep(EACH_SECONDS)
        deeds = at_work.let()[name]
        health.stop()
        found[name] = Alone(deeds, max(health.answers), spent(server) - before[0], spent(worker) - before[1])
    return found


def main() -> None:
    """Measure, and hold it against the aims."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place)
        file = recordings_in(folder)
        with Farm(folder / "farm", settings=ORDINARY) as farm, farm.worker() as worker:
            tokens = {
                name: farm.client.create_token(name, "worker" if name == "worker" else "user", owner=name).token
                for name in ("many", "hostile", "honest", "worker")
            }
            with FarmClient(farm.url, tokens["honest"]) as honest:
                delays(honest, file, 1)  # the model is loaded
                alone = statistics.median(one.seen for one in delays(honest, file, ALONE))
                at_work = AtWork(farm, tokens, folder)
                memory = PeakMemory(farm.server.pid)
                time.sleep(1)
                before_mb = memory.peak / 1e6
                health = Health(farm.url)
                at_work.let(*at_work.names)
                started = time.monotonic()
                beside = delays(honest, file, BESIDE)
                time.sleep(max(0.0, SECONDS - (time.monotonic() - started)))
                health.stop()
                grown_mb = memory.stop() - before_mb
                deeds = at_work.let()
                time.sleep(1)
                at_work.give_way()
                at_work.let(*at_work.names)
                elsewhere = delays(honest, file, BESIDE)
                at_work.let()
                parts = one_by_one(at_work, farm, psutil.Process(worker.pid))
                at_work.close()
    worst, median = max(health.answers), statistics.median(one.seen for one in beside)
    given_way = statistics.median(one.seen for one in elsewhere)
    lines = {
        f"health: worst of {len(health.answers)}": f"{worst * 1e3:8.0f} ms (aim {AIM_HEALTH_SECONDS * 1e3:.0f})",
        "health: median": f"{statistics.median(health.answers) * 1e3:8.1f} ms",
        "server: memory more than before": f"{grown_mb:8.0f} MB (aim {AIM_MEMORY_MB:.0f})",
        "honest 3-second recording, alone": f"{alone:8.2f} s",
        "beside them: median, worst": f"{median:8.2f} s, {max(one.seen for one in beside):.2f} s",
        "  until accepted, begun, finished, seen": f"    {steps(beside)}",
        "  times as long": f"{median / alone:8.2f} (aim {AIM_TIMES:g})",
        "beside them, giving way: median": f"{given_way:8.2f} s",
        "  until accepted, begun, finished and seen": f"    {steps(elsewhere)}",
        "  times as long as alone": f"{given_way / alone:8.2f}",
    }
    print("\nstrangers: one attacker of each kind at work")
    for what, figure in lines.items():
        print(f"  {what:44}{figure}")
    print(f"\n  {'alone, for ' + format(EACH_SECONDS, 'g') + ' s':34}together  deeds  health, ms  server, s  worker, s")
    for name, part in parts.items():
        worst_ms = part.worst_seconds * 1e3
        figures = f"{part.deeds:7}{worst_ms:12.0f}{part.server_seconds:11.2f}{part.worker_seconds:11.2f}"
        print(f"  {name.replace('_', ' '):34}{deeds[name]:8}{figures}")


if __name__ == "__main__":
    main()
