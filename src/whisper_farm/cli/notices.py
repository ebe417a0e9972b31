"""What the worker of a command has to say, as far as it is shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import cast

from whisper_farm.cli.progress import Display
from whisper_farm.worker.notices import Notice
from whisper_farm.worker.pipe import Fetching

SAID = frozenset({"child_died", "unreachable", "reachable"})
TOGETHER_SECONDS = 0.5
"""Results that follow each other so soon were worked on at the same time."""


class Notices:
    """Shows what the worker of this command has to say; the daily work is seen in the progress."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self.began: dict[str, float] = {}
        """When the worker took up the first chunk of a transcription."""
        self._batches: dict[str, float] = {}
        """When the first batch began that holds something of a transcription."""
        self._ended = self._ended_before = 0.0
        """When results came last, and when those before them did."""
        self._known: set[object] = set()
        """Models that are loaded, or cannot be."""
        self._lock = threading.Lock()

    def waiting_for(self, model: str) -> None:
        """Say that a model is loaded now. It may be ready already: a worker begins with it while files are read."""
        with self._lock:
            if model not in self._known:
                self.display.begin(f"model {model}", "loading")

    def __call__(self, notice: Notice) -> None:
        if notice.kind == "batch_begun":
            for transcription_id in cast(Sequence[str], notice.data["transcription_ids"]):
                self._batches.setdefault(transcription_id, time.monotonic())
        elif notice.kind == "job_finished" and "work_seconds" in notice.data:
            self._finished(str(notice.data["transcription_id"]), time.monotonic())
        elif notice.kind == "model_fetching":
            news = Fetching.model_validate(notice.data)
            self.display.transfer(f"model {news.model}", "fetching", news.done_bytes, news.total_bytes)
        elif notice.kind in SAID:
            self.display.note(notice.message)
        if notice.kind in ("model_ready", "model_unavailable"):
            with self._lock:
                self._known.add(notice.data.get("model"))
                self.display.end(f"model {notice.data.get('model')}")

    def _finished(self, transcription_id: str, now: float) -> None:
        """A batch may hear its chunks in turn: those of one recording wait for those of another until then."""
        if now - self._ended > TOGETHER_SECONDS:
            self._ended_before = self._ended
        self._ended = now
        self.began.setdefault(transcription_id, max(self._batches.get(transcription_id, 0.0), self._ended_before))
