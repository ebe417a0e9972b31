"""`./run chaos [--minutes N]`: a farm that is struck all the time, its transcripts beside those of an undisturbed run.

On SQLite and on PostgreSQL in turn: real servers, real workers, a bad line between them. Every second or so something
is killed, frozen, cut off or restarted, and one request in so many is lost, answered in vain, doubled, delayed,
garbled or swallowed. Every transcription that was accepted must finish, and say the same, word for word and time for
time. Prints a table; ends with status 1 if anything differs.
"""

from __future__ import annotations

import argparse
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
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "farm"))

from farm_processes import PATIENCE_SECONDS, PROGRAM, Farm, Process, Recording, busy_cores, essence, passing
from fault_proxy import FAULTS, Fault, FaultProxy
from postgres import PostgresServer

from whisper_farm.errors import FarmError
from whisper_farm.protocol.client import FINISHED
from whisper_farm.worker.deaths import POINTS, VARIABLE

DATABASES = ("sqlite", "postgresql")
LEASE_SECONDS = 2.0
WORKERS = 3
AT_ONCE = 3
"""Transcriptions under way."""
BAD_REQUESTS = 0.06
"""How many of the workers' requests something befalls."""
LONGEST_PAUSE_SECONDS = 2.5
"""Between two blows."""
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


class Storm:
    """One farm, and everything that befalls it."""

    def __init__(self, stack: ExitStack, folder: Path, postgres: PostgresServer | None, dice: random.Random) -> None:
        self.score = Score()
        self._dice = dice
        self._line_dice = random.Random(dice.random())
        self._stack = stack
        self._postgres = postgres
        database = None
        if postgres:
            database = postgres.create("chaos")
            subprocess.run([*PROGRAM, "db", "upgrade", "--database", database], check=True, timeout=PATIENCE_SECONDS)
        self.farm = stack.enter_context(Farm(folder, database, SETTINGS))
        self._line = stack.enter_context(FaultProxy(self.farm.port, hold_seconds=4.0))
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
        for (fault, _), count in self._line.suffered.items():
            self.score.faults[f"line: {fault.replace('_', ' ')}"] += count

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
            if self._workers and self._dice.random() < 0.3:
                point = self._dice.choice(POINTS)
                settings[VARIABLE] = point
                self.score.faults[f"worker dies {point.replace('_', ' ')}"] += 1
            self._workers.append(self.farm.start_worker(at=self._line.url, **settings))

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


def storm(kind: str, seconds: float, seed: int) -> Score:
    """So long on one kind of database."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        postgres = stack.enter_context(PostgresServer(fsync=True)) if kind == "postgresql" else None
        farm = Storm(stack, folder, postgres, random.Random(seed))
        stack.callback(farm.close)
        farm.learn()
        farm.rage(seconds)
        farm.calm()
        return farm.score


def table(scores: dict[str, Score]) -> str:
    """What was done, and what came of it, on each database."""
    lines = [["", *scores]]
    for fault in sorted({fault for score in scores.values() for fault in score.faults}):
        lines.append([fault, *(str(score.faults[fault]) for score in scores.values())])
    lines.append(["faults in all", *(str(score.faults.total()) for score in scores.values())])
    for state in sorted({state for score in scores.values() for state in score.attempts}):
        lines.append([f"attempts {state}", *(str(score.attempts[state]) for score in scores.values())])
    lines.append(["chunks", *(str(score.chunks) for score in scores.values())])
    lines.append(["transcripts compared", *(str(score.compared) for score in scores.values())])
    lines.append(["differences", *(str(len(score.differences)) for score in scores.values())])
    return "\n".join(f"  {name:34}" + "".join(f"{cell:>12}" for cell in cells) for name, *cells in lines)


def main(arguments: list[str]) -> int:
    """Run the storms one after the other; 0 if every transcript was the same."""
    parser = argparse.ArgumentParser(prog="./run chaos", description=__doc__.split("\n\n")[1])
    parser.add_argument("--minutes", type=float, default=10, help="of faults, all told [default: 10]")
    parser.add_argument("--database", choices=DATABASES, action="append", help="only this one [default: both in turn]")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of the order of faults")
    given = parser.parse_args(arguments)
    kinds = given.database or DATABASES
    print(f"Chaos: {given.minutes:g} minutes, seed {given.seed}", flush=True)
    scores = {kind: storm(kind, given.minutes * 60 / len(kinds), given.seed) for kind in kinds}
    print(table(scores))
    for kind, score in scores.items():
        for difference in score.differences:
            print(f"  {kind}: {difference}")
    right = all(score.compared and not score.differences for score in scores.values())
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
