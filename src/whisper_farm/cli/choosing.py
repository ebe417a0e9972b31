"""Which engine and model a command line means on this machine; fetches the model, showing how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whisper_farm.cli.progress import Display
from whisper_farm.cli.recognition import Wish
from whisper_farm.engines.choice import choose
from whisper_farm.engines.engine import EngineSettings, FetchProgress

if TYPE_CHECKING:
    from whisper_farm.settings import WorkerSettings


def chosen_engine(wish: Wish, worker: WorkerSettings, display: Display) -> tuple[str, str]:
    """Engine and model for a wish, on a machine that is used like this. Says so when `auto` had to fall back."""
    fetched: set[str] = set()

    def fetching(news: FetchProgress) -> None:
        fetched.add(f"model {news.model}")
        display.begin(f"model {news.model}", fetch_in_words(news.done_bytes, news.total_bytes))

    settings = EngineSettings(**worker.model_dump(include=SHARED, exclude_none=True))
    try:
        choice = choose(wish.engine, wish.model, wish.language, wish.task, settings, fetching)
    finally:
        for name in fetched:
            display.end(name)
    if choice.notice:
        display.note(choice.notice)
    return choice.engine, choice.model


SHARED = {"device", "device_index", "compute_type", "threads", "model_dir", "local_files_only"}
"""Settings of a worker that its engine has too."""


def fetch_in_words(done_bytes: int, total_bytes: int | None) -> str:
    """How far the fetch of a model is."""
    done = f"{done_bytes / 1e6:.0f}"
    return f"fetching {done} of {total_bytes / 1e6:.0f} MB" if total_bytes else f"fetching {done} MB"
