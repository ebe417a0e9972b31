"""Crowds of hand workers at one farm: one that loses most of its answers, one that never lets it rest.

`./run test` has them for moments, `./run chaos` for minutes.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.seed import seed_jobs
from support.farm_processes import Farm
from support.fault_proxy import Fault, FaultProxy
from support.hand_worker import HandWorker, Json
from whisper_farm.store.database import Database
from whisper_farm.transcript.options import RecognitionOptions

PATIENT = {
    "WHISPER_FARM_LEASE_SECONDS": "20",
    "WHISPER_FARM_HEARTBEAT_SECONDS": "5",
    "WHISPER_FARM_HEDGE_MIN_SECONDS": "3600",
}
"""Settings of a farm on which no lease may run out, and nothing counts as slow, however busy this machine is: who waits
in vain for an answer twice in a row has had its job for long enough to be hedged."""
LONGEST_PATIENCE_SECONDS = 0.03
"""A client that hangs up does so within this time: before, during or after what it asked for is done."""
LOST: dict[Fault | None, float] = {"lose_reply": 4, "lose_request": 3, "late_reply": 0.5, "hold_reply": 0.2, None: 3}
LATE_SECONDS = 0.1
HANG_UP = 0.5
"""How many calls a client gives up by itself."""
GIVE_UP_SECONDS = 5.0
"""How long it waits for the answer of the others: only a line that holds it for ever takes so long."""
WAIT_SECONDS = 0.5
MODEL = "instant"


@dataclass
class Losses:
    """Clients of one recording whose claims, and completions that claim the next, are lost most of the time."""

    farm: Farm
    file: Path
    drops: int
    seed: int
    clients: int = 6
    suffered: Counter[str] = field(default_factory=Counter)
    """What clients saw of it: each call without an answer once."""
    befell: Counter[Fault] = field(default_factory=Counter)
    """What the line did; a client may have hung up before."""
    doubles: list[str] = field(default_factory=list)
    """Jobs that were handed out more than once."""
    recording: str = ""
    chunks: int = 0
    finished: int = 0

    def run(self) -> None:
        """Until so many calls have been lost and all that was cut is done."""
        self._lock = threading.Lock()
        self._held: set[str] = set()
        options = RecognitionOptions(engine="tones", model=MODEL)
        self.recording = self.farm.client.submit_file(self.file, options=options).id
        with ExitStack() as stack:
            line = stack.enter_context(FaultProxy(self.farm.port, LATE_SECONDS))
            dice = random.Random(self.seed)
            line.chance = lambda call: _one_of(dice, LOST) if call in ("claim", "complete") else None
            self._cutter = HandWorker(self.farm.url, self.farm.token, f"cutter-{self.seed}")
            stack.callback(self._cutter.close)
            self._cutter.register()
            (self._cutting,) = self._cutter.claim(transcribe=0, chunk=1, wait=10)
            self._cut(self.clients)
            pool = stack.enter_context(ThreadPoolExecutor(self.clients))
            working = [pool.submit(self._client, line.url, number) for number in range(self.clients)]
            for client in working:
                client.result()
            outcomes = self._cutter.complete([self._cutter.cut_done(self._cutting, self.chunks)])
            assert [outcome["error_code"] for outcome in outcomes] == [None]
            for (fault, _), count in line.suffered.items():
                self.befell[fault] += count
            assert self.suffered["waited in vain"] <= self.befell["hold_reply"], "all else was answered"

    def _cut(self, chunks: int) -> None:
        self._cutter.cut(self._cutting, chunks, first=self.chunks)
        self.chunks += chunks

    def _client(self, url: str, number: int) -> None:
        dice = random.Random(self.seed + number + 1)
        worker = HandWorker(url, self.farm.token, f"client{number}-{self.seed}")
        try:
            worker.register()
            claims: Sequence[Json] = ()
            while claims or self._more():
                wish = worker.claim_body(dice.randint(1, 3), wait=WAIT_SECONDS)
                if claims:
                    claims = self._complete(worker, dice, claims, wish)
                else:
                    claims = self._insist(worker, dice, "claim", wish)["claims"]
                    self._note(claims)
        finally:
            worker.close()

    def _more(self) -> bool:
        with self._lock:
            return self.finished < self.chunks

    def _complete(self, worker: HandWorker, dice: random.Random, claims: Sequence[Json], wish: Json) -> Sequence[Json]:
        """Hand in, and be given the next."""
        completions = [worker.completion(claim, worker.heard(claim)) for claim in claims]
        body = {"worker_id": worker.worker_id, "completions": completions, "claim": wish | {"wait_seconds": 0}}
        answer = self._insist(worker, dice, "complete", body)
        assert [outcome["error_code"] for outcome in answer["outcomes"]] == [None] * len(claims)
        self._note(answer["claims"])
        with self._lock:
            self.finished += len(claims)
            if self.suffered.total() < self.drops:
                self._cut(len(claims))
        given: Sequence[Json] = answer["claims"]
        return given

    def _note(self, claims: Sequence[Json]) -> None:
        with self._lock:
            self.doubles += [claim["job_id"] for claim in claims if claim["job_id"] in self._held]
            self._held |= {claim["job_id"] for claim in claims}

    def _insist(self, worker: HandWorker, dice: random.Random, call: str, body: Json) -> Any:
        """Ask the same until it is answered."""
        while True:
            hangs_up = dice.random() < HANG_UP
            patience = dice.uniform(0.001, LONGEST_PATIENCE_SECONDS) if hangs_up else GIVE_UP_SECONDS
            try:
                answer = worker.http.post(f"/api/work/{call}", json=body, timeout=patience)
            except httpx.TimeoutException:
                self._lost("hung up" if hangs_up else "waited in vain")
            except httpx.TransportError:
                self._lost("broken")
            else:
                assert answer.status_code == 200, answer.text
                return answer.json()

    def _lost(self, how: str) -> None:
        with self._lock:
            self.suffered[how] += 1


@dataclass
class Load:
    """Claimers that complete and claim in one call, beaters that renew everything all the time, on a long queue."""

    farm: Farm
    claimers: int
    beaters: int
    group: int
    seconds: float = float("inf")
    """When to stop though there is more to do."""
    order: list[tuple[str, int]] = field(default_factory=list)
    """Recording and position of every job, as it was handed out."""
    short_from: int = 0
    """How many had been handed out when the short recording could be claimed."""
    short: str = ""
    answered: list[float] = field(default_factory=list)
    """Seconds that each call took which completed and claimed."""
    beats: int = 0
    errors: list[str] = field(default_factory=list)
    took: float = 0

    def run(self, short_after: int) -> None:
        """Until there is nothing to claim; a recording of three chunks comes when so many jobs were handed out."""
        self._over, self._come = threading.Event(), threading.Event()
        self._short_after = short_after
        self._tokens: dict[str, list[str]] = {}
        started = time.monotonic()
        self._stop_at = started + self.seconds
        with ThreadPoolExecutor(self.claimers + self.beaters + 1) as pool:
            names = [f"claimer{number}" for number in range(self.claimers)]
            claiming = [pool.submit(self._guarded, self._claim, name) for name in names]
            others = [pool.submit(self._guarded, self._submit_short, "")]
            others += [pool.submit(self._guarded, self._beat, names[n :: self.beaters]) for n in range(self.beaters)]
            for work in claiming:
                work.result()
            self._over.set()
            self._come.set()
            for work in others:
                work.result()
        self.took = time.monotonic() - started

    @property
    def wait_of_short(self) -> int:
        """How many jobs were handed out between the coming of the short recording and its last chunk."""
        places = [place for place, (each, _) in enumerate(self.order) if each == self.short]
        return max(0, *(place - self.short_from for place in places)) if len(places) == 3 else len(self.order)

    def _guarded(self, work: Any, told: Any) -> None:
        try:
            work(told)
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")
            self._over.set()

    def _claim(self, name: str) -> None:
        worker = HandWorker(self.farm.url, self.farm.token, name, [MODEL])
        try:
            worker.register()
            claims = worker.claim(self.group)
            while claims and not self._over.is_set() and time.monotonic() < self._stop_at:
                self._tokens[name] = [claim["token"] for claim in claims]
                self.order.extend((claim["transcription_id"], claim["position"]) for claim in claims)
                if len(self.order) >= self._short_after:
                    self._come.set()
                completions = [worker.completion(claim, worker.heard(claim)) for claim in claims]
                started = time.perf_counter()
                answer = worker.told("complete", completions=completions, claim=worker.claim_body(self.group))
                self.answered.append(time.perf_counter() - started)
                codes = {outcome["error_code"] for outcome in answer["outcomes"]}
                assert codes == {None}, codes
                claims = answer["claims"]
            if claims:
                worker.told("release", tokens=[claim["token"] for claim in claims])
        finally:
            worker.close()

    def _beat(self, names: Sequence[str]) -> None:
        """Beat for these workers in turn, without a pause."""
        voices = [HandWorker(self.farm.url, self.farm.token, name) for name in names]
        try:
            while not self._over.is_set():
                for voice in voices:
                    if tokens := self._tokens.get(voice.worker_id):
                        voice.told("heartbeat", tokens=tokens)
                        self.beats += 1
        finally:
            for voice in voices:
                voice.close()

    def _submit_short(self, _: str) -> None:
        self._come.wait()
        database = Database.open(self.farm.database)
        try:
            (self.short,) = seed_jobs(database, 1, 3, MODEL)
        finally:
            database.close()
        self.short_from = len(self.order)


def _one_of(dice: random.Random, weights: dict[Fault | None, float]) -> Fault | None:
    return dice.choices(list(weights), list(weights.values()))[0]
