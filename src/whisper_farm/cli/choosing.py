"""Which model a command line means on this machine; fetches the model, showing how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whisper_farm.cli.progress import BYTES, Display
from whisper_farm.cli.recognition_flags import Wish
from whisper_farm.engines.choose import choose_model
from whisper_farm.engines.engine import EngineSettings, FetchProgress

if TYPE_CHECKING:
    from whisper_farm.settings import WorkerSettings

LOOKING = "model"
"""What is shown before it is known which model it will be: to ask the model hub may take some seconds."""
SHARED = {"device", "device_index", "compute_type", "threads", "model_dir", "local_files_only"}
"""Settings of a worker that its engine has too."""


def chosen_model(wish: Wish, worker: WorkerSettings, display: Display) -> str:
    """The model for a wish, on a machine that is used like this."""
    fetched: set[str] = set()
    display.begin(LOOKING, "looking for it")

    def fetching(news: FetchProgress) -> None:
        display.end(LOOKING)
        fetched.add(f"model {news.model}")
        show_fetch(display, news.model, news.done_bytes, news.total_bytes)

    settings = EngineSettings(**worker.model_dump(include=SHARED, exclude_none=True))
    try:
        return choose_model(wish.engine, wish.model, wish.task, settings, fetching)
    finally:
        for name in (LOOKING, *fetched):
            display.end(name)


def show_fetch(display: Display, model: str, done_bytes: int, total_bytes: int | None) -> None:
    """Show how far the fetch of a model is."""
    display.begin(f"model {model}", "fetching")
    display.advance(f"model {model}", done_bytes, total_bytes, BYTES)
