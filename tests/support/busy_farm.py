"""A busy farm, played by chance: what its workers and clients may do, how often, and with what.

Hypothesis chooses. There is one rule for all actions, because rules of Hypothesis have no weights, and a farm
on which everything is equally likely never gets anywhere.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from support.everywhere import Everywhere
from support.model import Attempt, Job, Recording
from whisper_farm.leases.complete import Finished
from whisper_farm.leases.transcriptions import Assembled, NewTranscription
from whisper_farm.protocol.jobs import ChunkResult, ListeningCopy, PeaksResult, Result, TranscribeResult
from whisper_farm.protocol.worker import (
    AppendRequest,
    AttemptFailure,
    ClaimRequest,
    EngineOffer,
    FailRequest,
    HeartbeatRequest,
    NewChunk,
    RegisterRequest,
    ReleaseRequest,
)
from whisper_farm.settings import Policy
from whisper_farm.store.database import Database
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Coverage, MissingStretch

T = TypeVar("T")
RETRIABLE = ("incomplete", "failed", "cancelled")
WORKERS = ("ann", "bob", "cid", "dot")
"""At first; whoever is told to leave gets an heir."""
LABELLED = "dot"
"""It works on transcriptions with the label `dots` only, the others on those without."""
SHA = "a" * 64
OTHER_SHA = "b" * 64
LENGTH = 10.0
OFFERS: dict[str, dict[str, Any]] = {
    "all": {"models": None, "cuts": True},
    "warm": {"models": None, "loaded": ("large",), "cuts": True},
    "small": {"models": ("small",), "loaded": ("small",), "cuts": False},
    "large": {"models": ("large", "huge"), "cuts": True},
    "resting": {"models": None, "resting": ("small",), "cuts": True},
}
ACTIONS: dict[str, tuple[int, Callable[[Any], object]]] = {}
"""How often each action happens, and when it can."""


def may(weight: int, when: Callable[[Any], object] = lambda _: True) -> Callable[[T], T]:
    """The method may be played."""

    def known(play: T) -> T:
        ACTIONS[play.__name__] = (weight, when)  # type: ignore[attr-defined]
        return play

    return known


class BusyFarm(RuleBasedStateMachine):
    """The model is where it looks for something to do."""

    def __init__(self, databases: Sequence[Database], happened: Counter[str]) -> None:
        super().__init__()
        self.databases, self.happened = databases, happened
        self.choose: Callable[[Sequence[Any]], Any]
        self.names = list(WORKERS)
        self.requests: list[ClaimRequest] = []
        self.tokens: dict[str, tuple[str, str]] = {}
        """Every token ever handed out, with its worker and its job."""

    @initialize(data=st.data(), max_attempts=st.integers(1, 3), speech=st.sampled_from((0.0, 5.0)))
    def open(self, data: st.DataObject, max_attempts: int, speech: float) -> None:
        """Two workers, and a recording of which something is cut."""
        self.choose = lambda choices: data.draw(st.sampled_from(choices))
        self.begin(max_attempts, speech)

    def begin(self, max_attempts: int, speech: float) -> None:
        policy = Policy(
            max_attempts=max_attempts, language_speech_seconds=speech, max_chunks=8, retry_max_seconds=6,
            beats_per_second=0.5, hedge_factor=1.5,
        )  # fmt: skip
        self.farm = Everywhere(self.databases, policy, self.happened)
        self.model = self.farm.model
        for worker, offer in (("ann", "all"), ("bob", "warm")):
            self._ask("register", self._presenting(worker, offer), "ann")
        self.submit()
        self._claim(ClaimRequest(worker_id="ann", request_id="first", jobs={"chunk": 1}))
        self.append()

    @rule(data=st.data())
    def play(self, data: st.DataObject) -> None:
        """Something that can happen now."""
        self.choose = lambda choices: data.draw(st.sampled_from(choices))
        self.act()

    def act(self) -> None:
        possible = [name for name, (often, when) in FREQUENT_FIRST if when(self) for _ in range(often)]
        getattr(self, self.one_of(*possible))()

    def one_of(self, *choices: T) -> T:
        return self.choose(choices)

    def number(self, lowest: int, highest: int) -> int:
        return self.one_of(*range(lowest, highest + 1))

    def workers(self) -> list[str]:
        return [worker.id for worker in self.model.workers.values() if worker.state == "live"]

    def worker(self) -> str:
        """Most often one that may claim."""
        live = self.workers()
        return self.one_of(*live * 6, *self.names)

    # Workers come and go

    @may(12, lambda self: len(self.workers()) < 2)
    def come(self) -> None:
        self.register()

    @may(1)
    def register(self) -> None:
        gone = [worker.id for worker in self.model.workers.values() if worker.state == "gone"]
        away = [name for name in self.names if name not in self.model.workers or name in gone]
        worker, owner = self.one_of(*away * 3, *self.names), self.one_of(*["ann"] * 9, "eve")
        answer = self._ask("register", self._presenting(worker, self.one_of(*OFFERS)), owner)
        told_again = worker in gone and self.model.workers[worker].told and "refused" not in answer
        self.happened["told again"] += bool(told_again)

    @may(1, lambda self: len(self.workers()) > 1)
    def tell_to_leave(self) -> None:
        self._ask(self.one_of("drain", "dismiss"), self.worker())
        self.names.append(f"heir-{len(self.names)}")

    # Jobs go out

    @may(2)
    def submit(self) -> None:
        options = RecognitionOptions(
            engine="tones", model=self.one_of("small", "small", "large"), language=self.one_of(None, None, None, "en"),
            revision=self.one_of(None, None, "r1"), beam_size=self.one_of(5, 5, 1),
        )  # fmt: skip
        name = self.one_of("one", "two")
        key, priority = self.one_of(None, None, "k1", "k2"), self.one_of(0, 0, 1)
        label = self.one_of(*[""] * 6, "dots")
        new = NewTranscription(
            "ann",
            name,
            f"blob:sources/{name}",
            1 << 30,
            options,
            priority=priority,
            key=key,
            label=label,
            peaks=self.one_of(True, False, False),
        )
        known = len(self.model.recordings)
        self._ask("submit", new)
        self.happened["submit again"] += len(self.model.recordings) == known

    @may(12, lambda self: self.workers() and self._open())
    def claim(self) -> None:
        self._claim(
            ClaimRequest(
                worker_id=self.worker(), request_id=f"r{len(self.requests)}", 
                jobs={
                    "chunk": self.one_of(1, 1, 0, 2), "peaks": self.one_of(1, 0, 0),
                    "transcribe": self.one_of(2, 1, 2, 0, 4),
                },
            )
        )  # fmt: skip

    @may(1, lambda self: self.requests)
    def claim_again(self) -> None:
        if self._claim(self.one_of(*self.requests[-5:])):
            self.happened["claim answered again"] += 1

    @may(1)
    def wait(self) -> None:
        self.happened["something is due"] += isinstance(self._ask("next_due"), float)

    @may(10, lambda self: self._hedgeable())
    def wait_for_a_slow_worker(self) -> None:
        """Everybody beats while the clock runs far ahead; then somebody has nothing to do."""
        idle = self.worker()
        for _ in range(4):
            self.farm.now += 0.9 * self.farm.policy.lease_seconds
            for worker in sorted({one.worker_id for one in self._live()} | {idle}):
                self._beat(worker, [one.token for one in self._live() if one.worker_id == worker])
        request = ClaimRequest(
            worker_id=idle, request_id=f"r{len(self.requests)}", jobs={"transcribe": self.number(1, 3)}
        )
        hedges = [self.model.attempts[one["token"]] for one in self._claim(request) if one["hedge"]]
        if hedges and self.one_of(True, True, True, False):
            self._race(hedges[0])

    def _race(self, hedge: Attempt) -> None:
        """Both finish; the second is told that it was not needed, or finds out."""
        (rival,) = [one for one in self._live() if one.job_id == hedge.job_id and one is not hedge]
        first, second = self.one_of((hedge, rival), (rival, hedge))
        if self.one_of(True, False):
            self.happened["same job together"] += 1
            how = [self._heard(one, self.one_of("en", "de"), self.one_of(None, "r2")) for one in (first, second)]
            self._finish(how)
            return
        self._complete(first.worker_id, [self._heard(first, "en")])
        self._beat(second.worker_id, [second.token])
        self._complete(second.worker_id, [self._heard(second, "en")])

    # Workers report

    @may(3)
    def beat(self) -> None:
        """It names some of what it ever held, and at times what it never did."""
        worker, forgets = self.worker(), self.number(0, 3)
        mine = [token for token, (holder, _) in self.tokens.items() if holder == worker][-4:]
        others = sorted(self.tokens)[-1:] if self.number(0, 4) == 4 else []
        self._beat(worker, [token for place, token in enumerate(mine) if place + 1 != forgets] + others)

    @may(5, lambda self: self._live("chunk"))
    def append(self) -> None:
        live = self._live("chunk")
        if not live:
            return
        attempt, wrong = self.one_of(*live), self.one_of(*[""] * 6, "later", "longer", "empty", "stranger")
        overlap = self.one_of(0, 0, 1, 2)
        first = max(0, self._recording(attempt).chunks - overlap) + (wrong == "later")
        speech = self.one_of((8.0, 8.0, 8.0), (3.0, 8.0, 0.0), (3.0, 4.0, 4.0))
        chunks = [self._chunk(attempt, first + more, speech[more]) for more in range(self.one_of(3, 2, 1))]
        if wrong in ("longer", "empty"):
            end = chunks[0].end_seconds + 1 if wrong == "longer" else chunks[0].start_seconds
            chunks[0] = chunks[0].model_copy(update={"end_seconds": end})
        worker = "zoe" if wrong == "stranger" else attempt.worker_id
        declared = self.one_of(None, None, 1000.0)
        request = AppendRequest(worker_id=worker, token=attempt.token, chunks=tuple(chunks), duration_seconds=declared)
        self.happened["append again"] += "refused" not in self._ask("append", request) and overlap > 0

    @may(3, lambda self: self._live("chunk"))
    def finish_cutting(self) -> None:
        attempt = self.one_of(*self._live("chunk"))
        cut = self._cut(attempt, self.one_of(0, 0, 0, 1), self.one_of(None, None, 100.0))
        self._complete(attempt.worker_id, [cut])

    @may(4, lambda self: self._live("peaks"))
    def finish_peaks(self) -> None:
        attempt = self.one_of(*self._live("peaks"))
        self._complete(attempt.worker_id, [self._listened(attempt)])

    @may(14, lambda self: self._live("transcribe"))
    def finish_chunks(self) -> None:
        first = self.one_of(*self._live("transcribe"))
        mine = [one for one in self._live("transcribe") if one.worker_id == first.worker_id]
        mine = [first, *(one for one in mine if one is not first)][: self.number(1, 3)]
        finished = [
            self._heard(one, self.one_of("en", "en", "de"), self.one_of(None, None, "r1", "r2")) for one in mine
        ]
        self._complete(self.one_of(*[first.worker_id] * 6, self.worker()), finished)
        if lost := self.one_of("", "", "its answer", "its mind"):
            again = OTHER_SHA if lost == "its mind" else SHA
            self._complete(first.worker_id, [replace(one, digest=again) for one in finished])

    @may(6, lambda self: self._live("transcribe"))
    def finish_together(self) -> None:
        """Everybody takes a chunk. Then results of several workers come in one call, at times two of a job."""
        for worker in self.workers():
            self._claim(ClaimRequest(worker_id=worker, request_id=f"r{len(self.requests)}", jobs={"transcribe": 1}))
        live = self._live("transcribe")
        some = [one for one in live if self.number(0, 4)] or live
        finished = [
            self._heard(one, self.one_of("en", "en", "de"), self.one_of(None, None, None, "r2")) for one in some
        ]
        self.happened["finished together"] += len({one.worker_id for one in finished}) > 1
        self.happened["same job together"] += len({one.job_id for one in some}) < len(some)
        self._finish(finished)

    @may(2, lambda self: self.tokens)
    def finish_again(self) -> None:
        """A token that was handed out once, whatever has become of it, with the digest of then or another."""
        token = self.one_of(*sorted(self.tokens)[-8:])
        worker, job_id = self.tokens[token]
        attempt = self.model.attempts.get(token)
        sent = attempt.digest if attempt is not None and attempt.digest and self.number(0, 1) else OTHER_SHA
        kind = {"c": "chunk", "p": "peaks"}.get(job_id[-1], "transcribe")
        result = RESULTS_OF_NOTHING[self.one_of(*[kind] * 4, *sorted(RESULTS_OF_NOTHING))]
        self._complete(
            worker, [Finished(worker, token, sent, result, result_key=f"results/{token}/again", result_size=1)]
        )

    @may(4, lambda self: self._live())
    def fail(self) -> None:
        first = self.one_of(*self._live())
        mine = [one.token for one in self._live() if one.worker_id == first.worker_id][: self.number(0, 2)]
        how = self.one_of("charged", "charged", "charged", "uncharged", "permanent")
        told = {
            "code": self.one_of("engine_error", "recogniser_crashed", "speakers_unavailable"),
            "message": "It broke.",
        }
        told |= {"charged": how != "uncharged", "permanent": how == "permanent"}
        failures = [AttemptFailure(token=token, **told) for token in (first.token, *mine)]
        self._ask("fail", FailRequest(worker_id=first.worker_id, failures=tuple(failures)))
        self.happened[f"fail {how}"] += 1

    @may(2, lambda self: self._live())
    def release(self) -> None:
        attempt, leaving = self.one_of(*self._live()), self.one_of(False, False, True)
        worker = self.one_of(*[attempt.worker_id] * 4, self.worker())
        self._ask("release", ReleaseRequest(worker_id=worker, tokens=(attempt.token,), leaving=leaving))
        self.happened["release leaving"] += leaving

    # Clients and services

    @may(1, lambda self: self.model.recordings)
    def cancel(self) -> None:
        """Whoever works for it learns of it with the next beat."""
        holders = {one.token: one.worker_id for one in self._live()}
        self._whole("cancel", ("running", "assembling"))
        stopped = [token for token in holders if self.model.attempts[token].state == "cancelled"]
        for worker in sorted({holders[token] for token in stopped}):
            self._beat(worker, [token for token in stopped if holders[token] == worker])

    @may(3, lambda self: any(one.state in RETRIABLE for one in self.model.recordings.values()))
    def retry(self) -> None:
        self._whole("retry", RETRIABLE)

    @may(1, lambda self: len(self.model.recordings) > 1)
    def delete(self) -> None:
        self._whole("delete", ("done", "incomplete", "failed", "cancelled"))

    @may(6, lambda self: self.model.next_to_assemble())
    def assemble(self) -> None:
        name, how = self._ask("next_to_assemble"), self.one_of("done", "done", "incomplete", "lost", "late")
        results = self._ask("results_of", name)
        heard = [position for position, _, _, key in results if key is not None]
        lost = [self.one_of(*heard)] if how == "lost" and heard else []
        gaps = (MissingStretch(0.0, 1.0, "lost"),) if lost or how == "incomplete" else ()
        made = Assembled(f"transcripts/{name}", 5, Coverage(1.0, 1.0, 1, gaps), [tuple(one) for one in results], lost)
        if how == "late":
            self._ask("assembled", name, replace(made, results=[*made.results, (9, 0.0, 1.0, None)]))
        self._ask("assembled", name, made)
        self.happened.update({"lost": len(lost), "assembled late": how == "late"})

    @may(1)
    def reap(self) -> None:
        report = self._ask("reap")
        self.happened.update({"reaped workers": report["workers_gone"], "reaped jobs": report["jobs_set_aside"]})

    @may(3, lambda self: self._live())
    def night(self) -> None:
        """Everybody is switched off; then somebody looks after the farm, twice."""
        self.farm.now += 500
        self.reap()
        self.reap()

    @may(3)
    def tick(self) -> None:
        self.farm.now += self.one_of(4, 1, 4, 12, 25, 25, 70)

    def play_alone(self, dice: random.Random, steps: int) -> None:
        """A whole play without Hypothesis, which has its habits: all choices are equally likely here."""
        self.choose = dice.choice
        self.begin(dice.randint(1, 3), dice.choice((0.0, 5.0)))
        for _ in range(steps):
            self.act()
        self.teardown()

    def teardown(self) -> None:
        """Whatever has happened, a fresh worker can bring all to its end."""
        if not hasattr(self, "farm"):
            return
        self.farm.now += 10_000
        for worker, label in (("zed", ""), ("zoe", "dots")):
            self._ask("register", self._presenting(worker, "all", label), "ann")
            self._work_all(worker)
        states = {one.id: one.state for one in self.model.recordings.values()}
        assert not {"queued", "running"} & set(states.values()), f"stranded: {states}"
        assert not self._open(), "stranded jobs"

    def _work_all(self, worker: str) -> None:
        for _ in range(40):
            request = ClaimRequest(
                worker_id=worker,
                request_id=f"z{len(self.requests)}",
                jobs={"chunk": 16, "peaks": 16, "transcribe": 256},
            )
            if not self._claim(request):
                break
            held = [one for one in self._live() if one.worker_id == worker]
            ends = {"chunk": self._cut, "peaks": self._listened, "transcribe": lambda one: self._heard(one, "en")}
            ready = [ends[self._job(one).kind](one) for one in held]
            self._complete(worker, ready)

    # How it asks

    def _ask(self, name: str, *told: Any) -> Any:
        return self.farm.ask(name, *told)

    def _whole(self, what: str, states: Sequence[str]) -> None:
        recordings = list(self.model.recordings.values())
        fit = [one for one in recordings if one.state in states] * 8
        self._ask(what, self.one_of(*recordings, *fit).id)

    def _claim(self, request: ClaimRequest) -> list[dict[str, Any]]:
        self.requests += [request] if request not in self.requests else []
        claimed = self._ask("claim", request)
        if isinstance(claimed, dict):
            return []
        self.tokens |= {one["token"]: (request.worker_id, one["job_id"]) for one in claimed}
        self.happened.update(f"claim {one['kind']}" for one in claimed)
        return list(claimed)

    def _beat(self, worker: str, tokens: Sequence[str]) -> None:
        answer = self._ask("heartbeat", HeartbeatRequest(worker_id=worker, tokens=tuple(tokens)))
        self.happened.update({f"heartbeat {word}": len(answer.get(word, ())) for word in ("lost", "cancelled")})

    def _complete(self, worker: str, finished: Sequence[Finished]) -> None:
        self._finish([replace(one, worker_id=worker) for one in finished])

    def _finish(self, finished: Sequence[Finished]) -> None:
        late = [one for one in self._live() if one.lease_until <= self.farm.now]
        for outcome in self._ask("complete", tuple(finished)):
            self.happened[f"outcome {outcome['error_code']}"] += 1
            came_late = outcome["token"] in [one.token for one in late] and outcome["error_code"] is None
            self.happened["late but alone"] += came_late

    def _presenting(self, worker: str, offer: str, label: str | None = None) -> RegisterRequest:
        told = dict(OFFERS[offer])
        cuts = told.pop("cuts")
        engine = EngineOffer(engine="tones", version="1", device="cpu", batch=8, **told)
        return RegisterRequest(
            worker_id=worker, name=worker, version="0", platform="test", slots=1, engines=(engine,), cuts=cuts,
            label="dots" * (worker == LABELLED) if label is None else label,
        )  # fmt: skip

    def _chunk(self, attempt: Attempt, position: int, speech: float) -> NewChunk:
        key = f"chunks/{self._recording(attempt).id}/{attempt.token}.{position}"
        start = position * LENGTH
        return NewChunk(
            position=position, start_seconds=start, end_seconds=start + LENGTH, speech_seconds=speech, key=key, size=9,
            sha256=SHA,
        )  # fmt: skip

    def _cut(self, attempt: Attempt, off: int = 0, declared: float | None = None) -> Finished:
        recording = self._recording(attempt)
        result = ChunkResult(
            duration_seconds=recording.cut_seconds, chunks=recording.chunks + off, declared_seconds=declared,
            damaged_packets=2, damaged_seconds=((1.0, 2.0),),
        )  # fmt: skip
        return Finished(attempt.worker_id, attempt.token, SHA, result)

    def _listened(self, attempt: Attempt) -> Finished:
        """What is played and drawn, at a place that is this attempt's own."""
        audio = ListeningCopy(key=f"listening/{attempt.token}", size=7)
        seconds = self._recording(attempt).duration_seconds or 0.0
        result = PeaksResult(duration_seconds=seconds, peaks=(-0.5, 0.5), audio=audio)
        return Finished(attempt.worker_id, attempt.token, SHA, result, f"results/{attempt.token}", 9)

    def _heard(self, attempt: Attempt, language: str, revision: str | None = None) -> Finished:
        pinned = self._recording(attempt).revision or "r1"
        result = _result(language, revision or pinned, self.one_of(False, False, True))
        return Finished(
            attempt.worker_id,
            attempt.token,
            SHA,
            result=result,
            result_key=f"results/{attempt.token}",
            result_size=9,
            doubted=self.one_of(False, False, False, True),
        )

    # What it finds to do

    def _live(self, kind: str | None = None) -> list[Attempt]:
        live = [one for one in self.model.attempts.values() if one.state == "live"]
        return [one for one in live if kind in (None, self._job(one).kind)]

    def _open(self) -> bool:
        return any(job.state in ("queued", "running") for job in self.model.jobs.values())

    def _hedgeable(self) -> bool:
        waiting = [job for job in self.model.jobs.values() if job.state == "queued" and job.kind == "transcribe"]
        slow = [one for one in self._live("transcribe") if self.model.profiles[self._job(one).profile_id].samples]
        return bool(slow) and len(waiting) < 2

    def _job(self, attempt: Attempt) -> Job:
        return self.model.jobs[attempt.job_id]

    def _recording(self, attempt: Attempt) -> Recording:
        return self.model.recordings[self._job(attempt).transcription_id]


FREQUENT_FIRST = sorted(ACTIONS.items(), key=lambda action: -action[1][0])
"""Hypothesis has a liking for what comes first."""


def _result(language: str, revision: str, sure: bool = False) -> TranscribeResult:
    return TranscribeResult(
        segments=(), language=language, engine="tones", engine_version="1", model="small", revision=revision,
        language_sure=sure, device="cpu", compute_type="none", work_seconds=1.0,
    )  # fmt: skip


RESULTS_OF_NOTHING: dict[str, Result] = {
    "chunk": ChunkResult(duration_seconds=0, chunks=0),
    "peaks": PeaksResult(duration_seconds=0, peaks=(), audio=ListeningCopy(key="listening/again", size=1)),
    "transcribe": _result("en", "r1"),
}
