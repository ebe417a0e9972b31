"""The arithmetic of the queue's policy: how leases stretch, how long a failed job waits, when a job is given up."""

from __future__ import annotations

from dataclasses import dataclass

from whisper_farm.settings import Policy

FAILURES_PER_ATTEMPT = 4
"""Failures of any kind, for each charged attempt a job may have, that end it when nobody else is left to try."""
PACE_WEIGHT = 0.1
"""How much one completion moves the running average of its profile."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a lease lasts and how often to beat, in seconds, for the fleet as it is now."""

    lease_seconds: float
    heartbeat_seconds: float


def stretched(policy: Policy, present: int) -> Timing:
    """Heartbeats rarer the more workers there are, so that all keep to `beats_per_second`; leases in proportion."""
    heartbeat = max(policy.heartbeat_seconds, present / policy.beats_per_second)
    return Timing(policy.lease_seconds * heartbeat / policy.heartbeat_seconds, heartbeat)


def lately(policy: Policy, now: float) -> float:
    """Since when a failure is recent. So long a job is left to others by who failed it: as long as a try may wait."""
    return now - policy.retry_max_seconds


def backoff_seconds(policy: Policy, failures: int, jitter: float) -> float:
    """The wait before the next try: doubling from the base to the maximum, shortened by the jitter."""
    doubled = policy.retry_base_seconds * 2.0 ** min(max(failures, 1) - 1, 32)
    return min(policy.retry_max_seconds, doubled) * jitter


def moved_pace(pace: float | None, sample: float) -> float:
    """The running average after one more sample; the first one sets it."""
    return sample if pace is None else (1 - PACE_WEIGHT) * pace + PACE_WEIGHT * sample
