"""`./run chaos [--minutes N]`: farms under load, farms that lose answers, and one that is struck all the time.

On SQLite and on PostgreSQL in turn: 64 claimers on 200,000 queued jobs, then 10,000 lost claims over HTTP, then a storm
over real workers with a bad line between: every second or so something is killed, frozen, cut off or restarted, and
one request in eight is lost, doubled, delayed or swallowed, or its answer is lost, garbled, late or held for ever.
Every transcription that was accepted must finish, and say the same as an undisturbed run, word for word and time for
time. Prints a table, and which of the twelve tests of `docs/TESTING.md` that was; ends with status 1 if anything
differs.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.crowds import MODEL, PATIENT, Load, Losses
from support.dying_worker import POINTS, Point
from support.farm_processes import PATIENCE_SECONDS, PROGRAM, Farm, Process, Recording, busy_cores, essence, passing
from support.fault_proxy import FAULTS, Fault, FaultProxy
from support.postgres import PostgresServer

from bench.seed import seed_jobs
from whisper_farm.errors import FarmError
from whisper_farm.protocol.client import FINISHED
from whisper_farm.store import schema
from whisper_farm.store.database import Database

DATABASES = ("sqlite", "postgresql")
LEASE_SECONDS = 2.0
WORKERS = 3
AT_ONCE = 3
"""Transcriptions under way."""
BAD_REQUESTS = 0.12
"""How many of the workers' requests something befalls."""
LATE_SECONDS = 1.25 * LEASE_SECONDS
"""A late answer to a claim comes when its leases have run out already."""
LONGEST_PAUSE_SECONDS = 2.5
"""Between two blows."""
QUEUED, CLAIMERS, BEATERS, GROUP, LOAD_SECONDS = 200_000, 64, 8, 8, 60.0
"""The load: recordings of a tenth of the jobs each; it is enough after so many seconds."""
BOUND_SECONDS = 10.0
"""What 99 of 100 calls under that load must keep to: a database that is busy for longer refuses."""
DROPS = 10_000
FUZZERS = 9
"""Tests in `tests/attacks` that go on as long as they may."""
HEALING_SECONDS = 240.0
"""How long the last transcriptions may take when all is quiet again."""
SETTINGS = {
    "WHISPER_FARM_LEASE_SECONDS": str(LEASE_SECONDS),
    "WHISPER_FARM_HEARTBEAT_SECONDS": "0.5",
}


@dataclass
class Score:
    """What was done to the farm, and what came of it."""

    faults: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    chunks: int = 0
    attempts: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    """What the load and the lost claims came to."""


class Storm:
    """One farm, and everything that befalls it."""

    def __init__(
        self, stack: ExitStack, folder: Path, postgres: PostgresServer | None, dice: random.Random, score: Score
    ) -> None:
        self.score = score
        folder.mkdir()
        self._dice = dice
        self._line_dice = random.Random(dice.random())
        self._stack = stack
        self._postgres = postgres
        database = None
        if postgres:
            database = postgres.create("chaos")
            subprocess.run([*PROGRAM, "db", "upgrade", "--database", database], check=True, timeout=PATIENCE_SECONDS)
        self.farm = stack.enter_context(Farm(folder, database, SETTINGS))
        self._line = stack.enter_context(FaultProxy(self.farm.port, LATE_SECONDS, hold_seconds=4.0))
        self._recordings = [
            Recording.long(folder / "short.wav", 40),
            Recording.long(folder / "talk.wav", 150, first=1000),
            Recording.long(folder / "long.wav", 400, gap=0.6, first=2000),
        ]
        self._known: dict[Path, object] = {}
        self._workers: list[Process] = []
        self._under_way: dict[str, Recording] = {}
        self._submitted = 0

    def learn(self) -> None:
        """The transcripts of a run that nothing disturbs."""
        with self.farm.worker("--slots", "2", "--batch_size", "8"):
            ids = [self.farm.submit(recording) for recording in self._recordings]
            for recording, made in zip(self._recordings, ids, strict=True):
                self._known[recording.path] = essence(self.farm.finished(made))

    def rage(self, seconds: float) -> None:
        """Strike at random, and compare whatever finishes."""
        self._line.chance = self._befall
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._staff()
            self._keep_busy()
            time.sleep(self._dice.uniform(0.3, LONGEST_PAUSE_SECONDS))
            strike = self._dice.choice(self._strikes())
            self.score.faults[strike.__name__.replace("_", " ").strip()] += 1
            strike()
            self._collect()

    def calm(self) -> None:
        """Let everything that was accepted come to its end."""
        self._line.mend()
        end = time.monotonic() + HEALING_SECONDS
        while self._under_way and time.monotonic() < end:
            self._staff()
            self._collect()
            time.sleep(0.2)
        for made in self._under_way:
            view = self.farm.look(made)
            self.score.differences.append(f"{made} did not finish: {view.state if view else 'no answer'}")
        for (fault, call), count in self._line.suffered.items():
            which = " (complete)" if call == "complete" else ""
            self.score.faults[f"line: {fault.replace('_', ' ')}{which}"] += count

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.kill()

    def _befall(self, call: str) -> Fault | None:
        return self._line_dice.choice(FAULTS) if self._line_dice.random() < BAD_REQUESTS else None

    def _staff(self) -> None:
        """Replace the workers that are gone; a few of the new ones are doomed. A server never ends by itself."""
        if (status := self.farm.server.status) is not None:
            self.score.differences.append(f"the server ended with status {status}")
            self.farm.start()
        for worker in [worker for worker in self._workers if worker.status is not None]:
            self._workers.remove(worker)
        while len(self._workers) < WORKERS:
            settings = {"WHISPER_FARM_WORKER_REQUEST_TIMEOUT_SECONDS": "3"}
            dies: Point | None = None
            if self._workers and self._dice.random() < 0.3:
                dies = self._dice.choice(POINTS)
                self.score.faults[f"worker dies {dies.replace('_', ' ')}"] += 1
            self._workers.append(self.farm.start_worker(at=self._line.url, dies=dies, **settings))

    def _keep_busy(self) -> None:
        while len(self._under_way) < AT_ONCE:
            recording = self._dice.choice(self._recordings)
            key = f"chaos-{self._submitted}"
            try:
                made = self.farm.submit(recording, self._dice.choice(("instant", "x20", "x40")), key)
            except FarmError as error:
                if passing(error):
                    return
                raise
            self._submitted += 1
            self._under_way[made] = recording

    def _collect(self) -> None:
        """Compare what has finished."""
        for made, recording in list(self._under_way.items()):
            view = self.farm.look(made)
            if view is None or view.state not in FINISHED:
                continue
            try:
                self._compare(made, recording, view.state)
                del self._under_way[made]
            except FarmError as error:
                if not passing(error):
                    raise

    def _compare(self, made: str, recording: Recording, state: str) -> None:
        jobs = self.farm.jobs(made)
        there = state in ("done", "incomplete")
        same = there and essence(self.farm.client.transcript(made)) == self._known[recording.path]
        self.score.compared += 1
        self.score.chunks += len(jobs) - 1
        self.score.attempts.update(attempt.state for job in jobs for attempt in job.attempts)
        if state != "done" or not same:
            self.score.differences.append(f"{made} ({recording.path.name}): {state}, the same: {same}")
        for job in jobs:
            done = sum(attempt.state == "done" for attempt in job.attempts)
            if state == "done" and done > 1:
                self.score.differences.append(f"{made}: job {job.position} was done {done} times")

    def _strikes(self) -> Sequence[Callable[[], None]]:
        usual = [
            self._worker_killed,
            self._recogniser_killed,
            self._cutter_killed,
            self._worker_frozen_for_two_leases,
            self._worker_told_to_drain,
            self._server_killed,
            self._server_restarted,
            self._line_half_open_for_a_lease,
            self._every_core_busy_for_a_lease,
        ]
        return [*usual, self._postgresql_killed, self._postgresql_restarted] if self._postgres else usual

    def _any_worker(self) -> Process:
        return self._dice.choice(self._workers)

    def _worker_killed(self) -> None:
        self._any_worker().kill()

    def _recogniser_killed(self) -> None:
        self._any_worker().kill_child("recogniser")

    def _cutter_killed(self) -> None:
        self._any_worker().kill_child("cutter")

    def _worker_frozen_for_two_leases(self) -> None:
        worker = self._any_worker()
        worker.freeze()
        time.sleep(2 * LEASE_SECONDS)
        worker.thaw()

    def _worker_told_to_drain(self) -> None:
        self._any_worker().terminate()

    def _server_killed(self) -> None:
        self.farm.server.kill()
        time.sleep(self._dice.uniform(0, LEASE_SECONDS))
        self.farm.start()

    def _server_restarted(self) -> None:
        self.farm.server.terminate()
        self.farm.server.ended()
        self.farm.start()

    def _line_half_open_for_a_lease(self) -> None:
        self._line.cut_off()
        time.sleep(LEASE_SECONDS)
        self._line.reconnect()

    def _every_core_busy_for_a_lease(self) -> None:
        with busy_cores():
            time.sleep(LEASE_SECONDS)

    def _postgresql_killed(self) -> None:
        assert self._postgres
        self._postgres.kill()
        time.sleep(self._dice.uniform(0, LEASE_SECONDS))
        self._postgres.start()

    def _postgresql_restarted(self) -> None:
        assert self._postgres
        self._postgres.stop()
        self._postgres.start()


COMPLETIONS = ("lose reply", "hold reply", "late reply", "garble", "duplicate")
TWELVE: dict[str, tuple[str, ...]] = {
    "zombie": ("worker frozen for two leases",),
    "late but alone": ("line half open for a lease",),
    "lost claim reply": ("claims lost",),
    "lost completion reply": tuple(f"line: {how} (complete)" for how in COMPLETIONS),
    "kill at every step": tuple(f"worker dies {point.replace('_', ' ')}" for point in POINTS),
    "coordinator and database murder": ("server killed",),
    "starved beat": ("every core busy for a lease", "worker frozen for two leases"),
    "reaper races": ("worker killed", "worker frozen for two leases"),
    "rolling restart": ("worker told to drain", "server restarted"),
    "load": ("jobs handed out under load",),
}
"""The faults that exercise each of the twelve tests, all of them needed; the other two are no matter of chance."""
ELSEWHERE = {
    "poison chunk": "./run test -k test_poison_chunk",
    "model": "WHISPER_FARM_LONG=1 ./run test -k test_model",
}


def storm(kind: str, seconds: float, seed: int) -> Score:
    """All there is, and so long of the storm, on one kind of database."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        postgres = stack.enter_context(PostgresServer(fsync=True)) if kind == "postgresql" else None
        score = Score()
        crowd(score, folder, postgres, seed)
        farm = Storm(stack, folder / "storm", postgres, random.Random(seed), score)
        stack.callback(farm.close)
        farm.learn()
        farm.rage(seconds)
        farm.calm()
        return score


def crowd(score: Score, folder: Path, postgres: PostgresServer | None, seed: int) -> None:
    """The load, and then the lost claims, each on a farm of its own."""
    for name, work in (("load", under_load), ("losses", losing)):
        url = postgres.create(name) if postgres else f"sqlite:///{folder / f'{name}.db'}"
        database = Database.open(url)
        schema.upgrade(database)
        if name == "load":
            seed_jobs(database, 10, QUEUED // 10, MODEL)
        database.close()
        with Farm(folder / name, url, PATIENT) as farm:
            work(score, farm, seed)


def under_load(score: Score, farm: Farm, _: int) -> None:
    """Claimers and beaters on a long queue: no error reaches one, and a short recording is not kept waiting."""
    load = Load(farm, CLAIMERS, BEATERS, GROUP, LOAD_SECONDS)
    load.run(short_after=CLAIMERS * GROUP * 2)
    calls = sorted(load.answered) or [0.0]
    p50, p99 = calls[len(calls) // 2], calls[int(len(calls) * 0.99)]
    score.faults["jobs handed out under load"] += len(load.order)
    score.facts |= {
        f"{QUEUED:,} queued, {CLAIMERS} claimers: jobs/s": f"{len(load.order) / load.took:.0f}",
        "  beats/s besides": f"{load.beats / load.took:.0f}",
        f"  complete {GROUP}, claim {GROUP}: p50, ms": f"{p50 * 1e3:.0f}",
        f"  complete {GROUP}, claim {GROUP}: p99, ms": f"{p99 * 1e3:.0f}",
        "  jobs before the end of a short one": str(load.wait_of_short),
        "  errors": str(len(load.errors)),
    }
    score.differences += [f"load: {error}" for error in load.errors]
    if len(load.order) != len(set(load.order)):
        score.differences.append("load: a job was handed out twice")
    if load.wait_of_short > CLAIMERS * GROUP:
        score.differences.append(f"load: a short recording waited for {load.wait_of_short} jobs of others")
    if p99 > BOUND_SECONDS:
        score.differences.append(f"load: p99 {p99:.1f} s")


def losing(score: Score, farm: Farm, seed: int) -> None:
    """Claims and completions that are lost: nothing is stranded, nothing is handed out twice."""
    file = farm.folder / "file.wav"
    file.write_bytes(b"never decoded")
    losses = Losses(farm, file, DROPS, seed)
    losses.run()
    words = farm.finished(losses.recording).text.split()
    tries = [[attempt.state for attempt in job.attempts] for job in farm.jobs(losses.recording)]
    score.faults["claims lost"] += losses.suffered.total()
    score.facts |= {
        "claims and completions lost": str(losses.suffered.total()),
        "  stranded": str(sum(each != ["done"] for each in tries)),
        "  held twice": str(len(losses.doubles)),
    }
    score.differences += [f"lost claims: {job} was handed out twice" for job in losses.doubles]
    score.differences += [f"lost claims: a job was tried as {each}" for each in tries if each != ["done"]]
    if words != [f"word{position}" for position in range(losses.chunks)]:
        score.differences.append("lost claims: the transcript is another")


def table(scores: dict[str, Score]) -> str:
    """What was done, and what came of it, on each database."""
    lines = [["", *scores]]
    for fact in dict.fromkeys(fact for score in scores.values() for fact in score.facts):
        lines.append([fact, *(score.facts.get(fact, "") for score in scores.values())])
    for fault in sorted({fault for score in scores.values() for fault in score.faults}):
        lines.append([fault, *(str(score.faults[fault]) for score in scores.values())])
    lines.append(["faults in all", *(str(_struck(score)) for score in scores.values())])
    for state in sorted({state for score in scores.values() for state in score.attempts}):
        lines.append([f"attempts {state}", *(str(score.attempts[state]) for score in scores.values())])
    lines.append(["chunks", *(str(score.chunks) for score in scores.values())])
    lines.append(["transcripts compared", *(str(score.compared) for score in scores.values())])
    lines.append(["differences", *(str(len(score.differences)) for score in scores.values())])
    return "\n".join(f"  {name:42}" + "".join(f"{cell:>12}" for cell in cells) for name, *cells in lines)


def _struck(score: Score) -> int:
    return score.faults.total() - score.faults["jobs handed out under load"]


def exercised(scores: dict[str, Score]) -> str:
    """Which of the twelve tests this run was, and how often on each database."""
    lines = ["Of the twelve tests (docs/TESTING.md), so often:"]
    for test, faults in TWELVE.items():
        counts = [min(score.faults[fault] for fault in faults) for score in scores.values()]
        lines.append(f"  {test:42}" + "".join(f"{count or 'not':>12}" for count in counts))
    lines += [f"  {test:42}{where}" for test, where in ELSEWHERE.items()]
    return "\n".join(lines)


def fuzz(minutes: float) -> int:
    """Mutated recordings, heads and bodies by fixed seeds; 0 if all were answered or refused."""
    files = [str(file) for file in Path("tests/attacks").glob("test_mutated_*.py")]
    each = {"WHISPER_FARM_FUZZ_SECONDS": str(minutes * 60 / FUZZERS)}
    fuzzers = [sys.executable, "-m", "pytest", *files, "-q", "--timeout", "3600"]
    return subprocess.run(fuzzers, env={**os.environ, **each}, check=False).returncode


def main(arguments: list[str]) -> int:
    """Run all on one database after the other; 0 if every transcript was the same."""
    parser = argparse.ArgumentParser(prog="./run chaos", description=__doc__.split("\n\n")[1])
    parser.add_argument(
        "--minutes",
        type=float,
        default=10,
        help="of the storm, all told; load and lost claims take theirs besides; or of the fuzzers [default: 10]",
    )
    parser.add_argument("--database", choices=DATABASES, action="append", help="only this one [default: both in turn]")
    parser.add_argument("--attacks", action="store_true", help="the fuzzers of tests/attacks for long, instead")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of the order of faults")
    given = parser.parse_args(arguments)
    if given.attacks:
        return fuzz(given.minutes)
    kinds = given.database or DATABASES
    print(f"Chaos: {given.minutes:g} minutes, seed {given.seed}", flush=True)
    scores = {kind: storm(kind, given.minutes * 60 / len(kinds), given.seed) for kind in kinds}
    print(table(scores))
    print(exercised(scores))
    for kind, score in scores.items():
        for difference in score.differences:
            print(f"  {kind}: {difference}")
    right = all(score.compared and not score.differences for score in scores.values())
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
