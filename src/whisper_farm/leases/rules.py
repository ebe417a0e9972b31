"""The rules of the queue in numbers: leases, waits and budgets.

Knows no database. Chance enters the queue here, by a `Mint`, and nowhere else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import secrets
from dataclasses import dataclass

from whisper_farm.settings import Policy
from whisper_farm.transcript.options import RecognitionOptions

FAILURES_PER_ATTEMPT = 4
"""Failures of any kind, for each charged attempt a job may have, that end it when nobody else is left to try."""
TRIES_PER_ATTEMPT = 16
"""Tries of any kind, for each charged attempt a job may have, that end it whoever is left to try."""
MAX_LEASE_SECONDS = 300.0
"""The longest lease that a large fleet may lead to."""
ATTEMPT_PACE = 60.0
"""So many seconds more a try may last for each second of sound."""
CUT_PACE = 10.0
"""So many seconds a cutter wins back with each second of sound: nobody holds a recording by crumbs of it."""
PACE_WEIGHT = 0.1
"""How much one completion moves the running average of its profile."""


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """How long a lease lasts and how often to beat, in seconds, for the fleet as it is now."""

    lease_seconds: float
    heartbeat_seconds: float


def stretched(policy: Policy, present: int) -> LeaseTiming:
    """Heartbeats rarer the more workers there are, so that all keep to `beats_per_second`; leases in proportion."""
    heartbeat = max(policy.heartbeat_seconds, present / policy.beats_per_second)
    most = MAX_LEASE_SECONDS * policy.heartbeat_seconds / policy.lease_seconds
    heartbeat = max(policy.heartbeat_seconds, min(heartbeat, most))
    return LeaseTiming(policy.lease_seconds * heartbeat / policy.heartbeat_seconds, heartbeat)


def lately(policy: Policy, now: float) -> float:
    """Since when a failure is recent. A worker leaves a job that it failed or lost to others for so long."""
    return now - policy.retry_max_seconds


def backoff_seconds(policy: Policy, failures: int, jitter: float) -> float:
    """The wait before the next try: doubling from the base to the maximum, shortened by the jitter."""
    doubled = policy.retry_base_seconds * 2.0 ** min(max(failures, 1) - 1, 32)
    return min(policy.retry_max_seconds, doubled) * jitter


def moved_pace(pace: float | None, sample: float) -> float:
    """The running average after one more sample; the first one sets it."""
    return sample if pace is None else (1 - PACE_WEIGHT) * pace + PACE_WEIGHT * sample


class Mint:
    """Makes what nobody must be able to guess, and what should not be in step; tests have one of their own."""

    def transcription_id(self) -> str:
        """60 random bits as twelve characters that survive any file system and any voice on the telephone."""
        return base64.b32encode(secrets.token_bytes(8)).decode().lower()[:12]

    def claim_token(self) -> str:
        """The secret of one attempt: 192 random bits."""
        return secrets.token_urlsafe(24)

    def chosen(self, share: float) -> bool:
        """Whether this is one of such a share of all."""
        return random.random() < share

    def jitter(self) -> float:
        """A factor in [0.5, 1) for back-offs."""
        return 0.5 + random.random() / 2


RANDOM = Mint()


def profile_id(options: RecognitionOptions) -> str:
    """What two recordings must share to be recognised in one batch: all options but language and revision."""
    shared = options.model_dump(mode="json", exclude={"language", "revision"})
    return hashlib.sha256(json.dumps(["transcribe", shared], sort_keys=True).encode()).hexdigest()[:16]
