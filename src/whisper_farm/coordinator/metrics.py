"""What Prometheus is told: counts of what this coordinator did, and the state of the farm when it is asked.

Counters belong to this process (sum them over coordinators). Gauges of the queue and the workers are read from the
database at each scrape and are the same on every coordinator (take the maximum). The registry is its own, so that
any number of coordinators may live in one process.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from whisper_farm.errors import LeaseLost, every_error
from whisper_farm.protocol.wire import JobKind
from whisper_farm.store.counts import live_leases, queued_jobs, running_jobs, unfinished_transcriptions
from whisper_farm.store.database import Transaction
from whisper_farm.store.workers import list_workers

PREFIX = "whisper_farm_"
MAX_WORKERS = 1000
"""Workers shown one by one; more would drown the scraper."""
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
MakeGauge = Callable[..., Gauge]
KNOWN_CODES = frozenset(every_error())
"""Causes counted one by one. Workers name any they like, and every name would be a series for ever."""


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(PREFIX + name, meaning, labels, registry=self._registry)

        self.claims = counter("claims", "Attempts handed out", "kind", "hedge")
        self.outcomes = counter("outcomes", "Ends of attempts as workers offered them", "call", "code")
        self._events = counter("events", "State changes made by this coordinator", "kind")
        self._retries = counter("job_retries", "Jobs that went back to the queue after a failure", "code")
        self._lapses = counter("lease_lapses", "Jobs that were taken from a worker whose lease had lapsed")
        self._audio = counter("audio_seconds_done", "Seconds of audio that were recognised or found to be silence")
        self.requests = Histogram(
            PREFIX + "request_seconds",
            "Time to answer; claims and event streams wait on purpose",
            ("method", "route", "status"),
            registry=self._registry,
            buckets=LATENCY_BUCKETS,
        )

    def emitted(self, events: Iterable[Mapping[str, object]]) -> None:
        """A transaction with these events was committed."""
        for event in events:
            kind, data = str(event["kind"]), event["data"]
            assert isinstance(data, dict)
            self._events.labels(kind).inc()
            if kind == "job_done":
                self._audio.inc(data["seconds"])
            if kind == "job_retried":
                self._retries.labels(data["code"] if data["code"] in KNOWN_CODES else "other").inc()
            if kind in ("job_retried", "job_set_aside") and data["code"] == LeaseLost.code:
                self._lapses.inc()

    def render(self, farm: CollectorRegistry) -> bytes:
        """The exposition text: our counters and the gauges read from the database."""
        return generate_latest(self._registry) + generate_latest(farm)


def farm_gauges(tx: Transaction) -> CollectorRegistry:
    """The farm as it is now."""
    registry = CollectorRegistry()

    def gauge(name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, meaning, labels, registry=registry)

    _queue(tx, gauge)
    _leases(tx, gauge)
    _workers(tx, gauge)
    unfinished = gauge("transcriptions", "Transcriptions that are not finished", "state")
    for state, transcriptions in unfinished_transcriptions(tx):
        unfinished.labels(state).set(transcriptions)
    return registry


def _queue(tx: Transaction, gauge: MakeGauge) -> None:
    depth = gauge("jobs_queued", "Jobs that wait for a worker", "kind")
    age = gauge("job_age_seconds", "How long the oldest of them has waited", "kind")
    audio = gauge("audio_seconds_queued", "Seconds of audio that wait to be recognised")
    running = gauge("jobs_running", "Jobs held by a worker", "kind")
    for kind in get_args(JobKind):
        depth.labels(kind).set(0)
        age.labels(kind).set(0)
    for queued in queued_jobs(tx):
        depth.labels(queued.kind).set(queued.jobs)
        age.labels(queued.kind).set(max(0.0, tx.now - queued.oldest_at))
        if queued.kind == "transcribe":
            audio.set(queued.audio_seconds)
    for kind, jobs in running_jobs(tx):
        running.labels(kind).set(jobs)


def _leases(tx: Transaction, gauge: MakeGauge) -> None:
    live = gauge("leases_live", "Attempts under way", "hedge")
    lapsed = gauge("leases_lapsed", "Attempts whose worker has not been heard of for a lease")
    for hedge, under_way, silent in live_leases(tx):
        live.labels("yes" if hedge else "no").set(under_way)
        lapsed.inc(silent)


def _workers(tx: Transaction, gauge: MakeGauge) -> None:
    present = gauge("workers", "Workers that are not gone", "state")
    speed = gauge("worker_speed", "Audio-seconds a second of recognition, over a worker's life", "worker")
    audio = gauge("worker_audio_seconds", "Audio-seconds a worker has recognised", "worker")
    workers = list_workers(tx)
    for row in workers[:MAX_WORKERS]:
        audio.labels(row.id).set(row.audio_seconds)
        if row.speed is not None:
            speed.labels(row.id).set(row.speed)
    for state, count in Tally(row.state for row in workers).items():
        present.labels(state).set(count)
