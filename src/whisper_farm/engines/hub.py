"""Fetching a model from the model hub, with progress, into the cache that all programs share.

Promises: what was fetched is kept and continued, in this run and the next. A network that falls silent is noticed
after `STALL_SECONDS`, even if it drops packets. A file counts only when its size and hash are those that the hub
declares. A model is either complete in the cache or not there. Two processes that want the same model fetch it once.
Every failure is a ModelUnavailable that says what to do.

It heeds HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE. The library of the hub finds out
what there is; the bytes are read here, because the library starts again from nothing after a failure.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from whisper_farm.engines.cache import (
    WANTED,
    FoundModel,
    cached,
    is_model,
    local_model,
    models_on_disk,
    repository,
    repository_folder,
)
from whisper_farm.engines.engine import EngineSettings, FetchProgress, Progress
from whisper_farm.errors import ModelUnavailable
from whisper_farm.whole_files import write_whole

if TYPE_CHECKING:
    import httpx

STALL_SECONDS = 30.0
"""Without a byte for this long, a fetch is given up; what it has stays."""
TRIES = 4
"""Broken connections in a row, without a byte between them, before a fetch is given up."""
PAUSE_SECONDS = 1.0
DEFAULT_ENDPOINT = "https://huggingface.co"

_BLOCK_BYTES = 1 << 18
_NEWS_SECONDS = 0.2
_WAIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a model as the hub declares it: by SHA-256 if it is large, else by git's hash."""

    name: str
    size: int
    sha256: str | None
    git_hash: str | None

    @property
    def key(self) -> str:
        return self.sha256 or self.git_hash or self.name


class _News:
    """Tells how far the whole fetch is, a few times a second."""

    def __init__(self, model: str, total: int, progress: Progress) -> None:
        self._model, self._total, self._progress = model, total, progress
        self._done, self._told_at = 0, 0.0

    def move(self, change: int) -> None:
        self._done += change
        if self._done >= self._total or time.monotonic() >= self._told_at + _NEWS_SECONDS:
            self._told_at = time.monotonic()
            self._progress(FetchProgress(self._model, self._done, self._total))


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of the hub: its files, of which the last, the largest, says that the others are there."""

    model: str
    """As whoever asks for it calls it."""
    repo: str
    names: tuple[str, ...]
    is_whole: Callable[[Path], bool]
    lacking: str
    """What is said of a repository without such files."""
    instead: str
    """What can be given instead of a model that cannot be had."""


def find_model(model: str, settings: EngineSettings, progress: Progress, revision: str | None = None) -> FoundModel:
    """The model, fetched from the hub if it is not on this machine; ModelUnavailable with what to do otherwise.

    Another model that is on this machine is offered, and never taken in silence.
    """
    if found := local_model(model, revision, settings.model_dir):
        return found
    try:
        return fetched(_whisper(model), settings, progress, revision)
    except ModelUnavailable as problem:
        here = [found.model for found in models_on_disk(settings.model_dir) if found.model != model]
        if revision is not None or not here:
            raise
        raise ModelUnavailable(
            f"{problem.message} On this machine are: {', '.join(here)}; take one with --model."
        ) from problem


def _whisper(model: str) -> HubModel:
    lacking = f"no model in CTranslate2's form; name one such as {repository('small')}"
    return HubModel(model, repository(model), WANTED, is_model, lacking, "a folder with the model (--model FOLDER)")


def fetched(wanted: HubModel, settings: EngineSettings, progress: Progress, revision: str | None = None) -> FoundModel:
    """The model in the cache; what is missing of it is fetched, unless that is switched off."""
    model, repo, model_dir = wanted.model, wanted.repo, settings.model_dir
    if found := cached(model, repo, wanted.is_whole, revision, model_dir):
        return found
    home = repository_folder(repo, model_dir)
    if settings.local_files_only:
        raise ModelUnavailable(
            f"The model {model!r} is not on this machine and fetching is switched off; "
            f"copy the hub's folder to {home}, or give {wanted.instead}."
        )
    try:
        (home / "partial").mkdir(parents=True, exist_ok=True)
        with _alone(home, model, progress):
            if found := cached(model, repo, wanted.is_whole, revision, model_dir):
                return found
            commit, files = _declared(wanted, revision)
            _fetch_all(wanted, commit, files, home, _News(model, sum(file.size for file in files), progress))
            if revision is None:
                write_whole(home / "refs" / "main", commit.encode())
            return FoundModel(model, home / "snapshots" / commit, commit)
    except OSError as problem:
        raise ModelUnavailable(f"The model {model!r} cannot be written to {home}: {problem}.") from problem


def _declared(wanted: HubModel, revision: str | None) -> tuple[str, list[HubFile]]:
    """The commit and the files of a repository, smallest first."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

    repo = wanted.repo
    try:
        info = HfApi(endpoint=_endpoint()).model_info(
            repo, revision=revision, files_metadata=True, timeout=STALL_SECONDS
        )
    except RevisionNotFoundError as problem:
        raise ModelUnavailable(f"The model hub has no revision {revision} of {repo}.") from problem
    except HfHubHTTPError as problem:
        if problem.response.status_code in (401, 403, 404):
            raise _not_ours(repo) from problem
        raise ModelUnavailable(f"The model hub at {_endpoint()} refused {repo}: {_first_line(problem)}") from problem
    except Exception as problem:  # the library lets the errors of whichever HTTP client it uses through
        raise _unreachable(wanted, repo, problem) from problem
    by_name = {each.rfilename: each for each in info.siblings or ()}
    files = [
        HubFile(name, each.size or 0, each.lfs.sha256 if each.lfs else None, each.blob_id)
        for name in wanted.names
        if (each := by_name.get(name))
    ]
    if info.sha is None or wanted.names[-1] not in by_name:
        raise ModelUnavailable(f"{repo} holds {wanted.lacking}.")
    return info.sha, files


def _fetch_all(wanted: HubModel, commit: str, files: list[HubFile], home: Path, news: _News) -> None:
    import httpx

    repo = wanted.repo
    snapshot = home / "snapshots" / commit
    missing = [file for file in files if not (snapshot / file.name).is_file()]
    news.move(sum(file.size for file in files if file not in missing))
    _make_sure_of_space(repo, missing, home)
    limits = httpx.Timeout(STALL_SECONDS)
    with httpx.Client(timeout=limits, follow_redirects=True, headers=_headers(), max_redirects=5) as client:
        for file in missing:
            address = f"{_endpoint()}/{repo}/resolve/{commit}/{file.name}"
            part = home / "partial" / file.key
            _fetch_file(client, address, part, file, wanted, news)
            _verify(part, file, repo, news)
            (snapshot / file.name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(part, snapshot / file.name)  # noqa: PTH105
    if not wanted.is_whole(snapshot):
        raise ModelUnavailable(f"{repo} lacks files that the model needs: it holds {wanted.lacking}.")


def _fetch_file(client: httpx.Client, address: str, part: Path, file: HubFile, wanted: HubModel, news: _News) -> None:
    """Read the rest of one file into `part`, trying again while bytes arrive."""
    import httpx

    part.touch()
    news.move(part.stat().st_size)
    tries = 0
    while (before := part.stat().st_size) < file.size:
        try:
            _read_on(client, address, part, file, news)
            problem: Exception = ConnectionError("the hub ended the file too early")
        except httpx.TimeoutException as stall:
            raise ModelUnavailable(
                f"The fetch of {file.name} stalled: no byte from {_endpoint()} for {STALL_SECONDS:g} seconds. "
                "What was fetched is kept; run the same command again to go on."
            ) from stall
        except httpx.HTTPStatusError as refusal:
            raise ModelUnavailable(f"The model hub refused {address}: {_first_line(refusal)}") from refusal
        except httpx.HTTPError as broken:
            problem = broken
        tries = tries + 1 if part.stat().st_size <= before else 0
        if tries >= TRIES:
            raise _unreachable(wanted, file.name, problem) from problem
        if tries:
            time.sleep(PAUSE_SECONDS)


def _read_on(client: httpx.Client, address: str, part: Path, file: HubFile, news: _News) -> None:
    have = part.stat().st_size
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", address, headers=headers) as answer:
        answer.raise_for_status()
        if have and answer.status_code != 206:
            news.move(-have)
            have = 0
        with part.open("r+b") as out:
            out.truncate(have)
            out.seek(have)
            for arrived in answer.iter_raw():
                block = arrived[: file.size - have]
                out.write(block)
                have += len(block)
                news.move(len(block))
                if have >= file.size:
                    return


def _verify(part: Path, file: HubFile, repo: str, news: _News) -> None:
    """Refuse, and forget, a file that is not what the hub declared."""
    right = part.stat().st_size == file.size
    with part.open("rb") as content:
        if file.sha256:
            right = right and hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
        elif file.git_hash:
            digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
            while block := content.read(_BLOCK_BYTES):
                digest.update(block)
            right = right and digest.hexdigest() == file.git_hash
    if not right:
        part.unlink()
        news.move(-file.size)
        raise ModelUnavailable(
            f"What arrived as {file.name} of {repo} is not what the hub declared (its hash differs); it is deleted. "
            "Run the same command again; if it happens twice, something on the way to the hub changes what is fetched."
        )


@contextmanager
def _alone(home: Path, model: str, progress: Progress) -> Iterator[None]:
    """Hold the lock on one repository's fetch; meanwhile tell how far the process that holds it is."""
    from filelock import FileLock, Timeout

    lock = FileLock(home / "partial" / ".lock")
    seen, moved_at = -1, time.monotonic()
    while True:
        try:
            lock.acquire(timeout=_WAIT_SECONDS)
            break
        except Timeout:
            size = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
            if size != seen:
                seen, moved_at = size, time.monotonic()
                progress(FetchProgress(model, size, None))
            elif time.monotonic() > moved_at + 2 * STALL_SECONDS:
                raise ModelUnavailable(
                    f"Another process has been fetching the model {model!r} without getting on; end it and try again."
                ) from None
    try:
        yield
    finally:
        lock.release()


def _make_sure_of_space(repo: str, missing: list[HubFile], home: Path) -> None:
    have = sum(
        (home / "partial" / file.key).stat().st_size for file in missing if (home / "partial" / file.key).exists()
    )
    need, free = sum(file.size for file in missing) - have, shutil.disk_usage(home).free
    if need > free:
        raise ModelUnavailable(
            f"{repo} needs {need >> 20} MB more in {home}, and {free >> 20} MB are free; "
            "make room, or choose another place with --model_dir or HF_HOME."
        )


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def _headers() -> dict[str, str]:
    from huggingface_hub import get_token

    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _not_ours(repo: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"The model hub has no {repo}, or it is private: check the name, or set HF_TOKEN to one that may read it."
    )


def _unreachable(wanted: HubModel, what: str, problem: Exception) -> ModelUnavailable:
    return ModelUnavailable(
        f"The model hub at {_endpoint()} cannot be reached for {what} ({_first_line(problem)}). Check the network or "
        f"HF_ENDPOINT, or give {wanted.instead}."
    )


def _first_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]
