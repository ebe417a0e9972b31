"""What the worker of a command has to say, as far as it is shown."""

from __future__ import annotations

import time

from whisper_farm.cli.progress import Display
from whisper_farm.worker.notices import Notice
from whisper_farm.worker.pipe import Fetching

SAID = frozenset({"child_died", "unreachable", "reachable"})


class Notices:
    """Shows what the worker of this command has to say; the daily work is seen in the progress."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self.began: dict[str, float] = {}
        """When the worker took up the first chunk of a transcription."""

    def __call__(self, notice: Notice) -> None:
        if isinstance(seconds := notice.data.get("work_seconds"), float):
            self.began.setdefault(str(notice.data["transcription_id"]), time.monotonic() - seconds)
        if notice.kind == "model_fetching":
            news = Fetching.model_validate(notice.data)
            self.display.transfer(f"model {news.model}", "fetching", news.done_bytes, news.total_bytes)
        elif notice.kind in SAID:
            self.display.note(notice.message)
        if notice.kind in ("model_ready", "model_unavailable"):
            self.display.end(f"model {notice.data.get('model')}")
