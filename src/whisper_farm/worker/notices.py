"""What a worker tells its owner while it works: for a progress display, a log, a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

NoticeKind = Literal[
    "registered", "unreachable", "reachable", "refused", "engine_unavailable", "model_fetching", "model_ready",
    "model_unavailable", "chunks_appended", "batch_begun", "job_finished", "job_failed", "job_refused", "job_dropped",
    "child_died", "ending", "draining", "left",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that happened. `message` is for people, `data` for programs."""

    kind: NoticeKind
    message: str
    data: Mapping[str, object] = field(default_factory=dict)


Tell = Callable[[Notice], None]


def tell_nobody(notice: Notice) -> None:
    """For a worker whose owner does not listen."""
