"""Where Whisper models are on this machine: names, the model hub's cache, plain folders. Fetching is `hub`'s.

A model is a name (`small`), a repository of the hub (`owner/name`) or a folder. Nothing here asks the network.
The cache is the one that every program using the hub shares: `model_dir` if given, else `HF_HUB_CACHE`, else
`hub` in `HF_HOME`. A model counts as found when all of its files are there.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from whisper_farm.errors import ModelUnavailable
from whisper_farm.models import REPOSITORIES, may_be_folder

NEEDED = ("config.json", "tokenizer.json", "model.bin")
VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
WANTED = ("config.json", "preprocessor_config.json", "tokenizer.json", *VOCABULARIES, "model.bin")
"""Every file of a model; the big one, fetched last, says that the others are there."""

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SAMPLES = 64
_SAMPLE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model on this machine. `revision` is the hub's commit, or a short digest of a plain folder's content."""

    model: str
    path: Path
    revision: str


def local_model(model: str, revision: str | None = None, model_dir: str | None = None) -> FoundModel | None:
    """The model if it is on this machine, in that revision if one is given. No network.

    `owner/name` is never a folder here, whatever lies where this process was started.
    ModelUnavailable if the name is none that there is, or if a folder is no model or of another revision.
    """
    if may_be_folder(model) and (folder := plain_folder(model)) is not None:
        return _in_folder(model, folder, revision)
    return cached(model, repository(model), is_model, revision, model_dir)


def cached(
    model: str, repo: str, is_whole: Callable[[Path], bool], revision: str | None = None, model_dir: str | None = None
) -> FoundModel | None:
    """What the cache has of a repository, if that is whole: the commit that is named, or that was last fetched."""
    home = repository_folder(repo, model_dir)
    if (commit := revision or _head(home)) is None or not _COMMIT.fullmatch(commit):
        return None
    snapshot = home / "snapshots" / commit
    return FoundModel(model, snapshot, commit) if is_whole(snapshot) else None


def models_on_disk(model_dir: str | None = None) -> list[FoundModel]:
    """Every complete Whisper model in the cache, newest commit of each, by its short name where it has one."""
    names = {repo: name for name, repo in reversed(REPOSITORIES.items())}
    found = []
    for home in sorted(cache_folder(model_dir).glob("models--*--*")):
        repo = home.name.removeprefix("models--").replace("--", "/", 1)
        commit = _head(home)
        if commit and is_model(home / "snapshots" / commit):
            found.append(FoundModel(names.get(repo, repo), home / "snapshots" / commit, commit))
    return found


def repository(model: str) -> str:
    """The hub's repository of a model; ModelUnavailable, with the nearest name, for what can be none."""
    if repo := REPOSITORIES.get(model):
        return repo
    if _REPOSITORY.fullmatch(model) and ".." not in model and "--" not in model:
        return model
    if "/" in model or "\\" in model:
        raise ModelUnavailable(
            f"There is no model {model!r}: no folder is there, and a repository of the model hub is written owner/name."
        )
    near = get_close_matches(model, REPOSITORIES, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ModelUnavailable(
        f"There is no model {model!r}.{hint} Give one of {', '.join(REPOSITORIES)}, "
        "a repository of the model hub (owner/name), or a folder that holds a CTranslate2 model."
    )


def plain_folder(model: str) -> Path | None:
    """The folder that a model's name means, or None if it means a name or a repository."""
    if model in REPOSITORIES:
        return None
    folder = Path(model).expanduser()
    return folder.absolute() if folder.is_dir() else None


def cache_folder(model_dir: str | None = None) -> Path:
    """Where fetched models are kept."""
    if model_dir:
        return Path(model_dir).expanduser().absolute()
    environment = os.environ.get
    if chosen := environment("HF_HUB_CACHE") or environment("HUGGINGFACE_HUB_CACHE"):
        return Path(os.path.expandvars(chosen)).expanduser().absolute()
    home = environment("HF_HOME") or os.path.join(environment("XDG_CACHE_HOME") or "~/.cache", "huggingface")  # noqa: PTH118
    return Path(os.path.expandvars(home)).expanduser().absolute() / "hub"


def repository_folder(repo: str, model_dir: str | None = None) -> Path:
    """Where the cache keeps one repository."""
    return cache_folder(model_dir) / f"models--{repo.replace('/', '--')}"


def readable(models: Iterable[str], model_dir: str | None = None) -> Iterator[Path]:
    """Where whoever loads models reads: the cache, models that are folders or files, and what links in them name."""
    named = [Path(model).expanduser().absolute() for model in models if may_be_folder(model)]
    for place in (cache_folder(model_dir), *named):
        yield place
        if place.is_dir():
            yield from (entry.resolve() for entry in place.iterdir() if entry.is_symlink())


def is_model(folder: Path) -> bool:
    """Whether all files of a CTranslate2 Whisper model are in the folder."""
    return all((folder / name).is_file() for name in NEEDED) and any((folder / name).is_file() for name in VOCABULARIES)


def digest_of(model: Path) -> str:
    """A short digest of a model, a folder or a file: small files whole, a big one by its size and 64 samples."""
    digest = hashlib.sha256()
    for path in (model / name for name in WANTED) if model.is_dir() else (model,):
        if not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for sample in range(_SAMPLES):
                file.seek(max(0, size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
                if size <= _SAMPLE_BYTES:
                    break
    return digest.hexdigest()[:16]


def _in_folder(model: str, folder: Path, revision: str | None) -> FoundModel:
    if not is_model(folder):
        missing = [name for name in NEEDED if not (folder / name).is_file()] or [VOCABULARIES[0]]
        raise ModelUnavailable(f"The folder {folder} is no CTranslate2 Whisper model: it lacks {', '.join(missing)}.")
    digest = digest_of(folder)
    if revision not in (None, digest):
        raise ModelUnavailable(
            f"The folder {folder} holds revision {digest} of the model; this recording was begun with {revision}."
        )
    return FoundModel(model, folder, digest)


def _head(home: Path) -> str | None:
    """The commit that was last fetched of a cached repository."""
    try:
        return (home / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None
