"""Every setting of the farm, once: name, unit, default, bound. Environment variables carry the prefix `WHISPER_FARM_`.

Command-line flags override the environment. Nothing here opens a file or a connection.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork
from pydantic_settings import BaseSettings, SettingsConfigDict

from whisper_farm import DEFAULT_ENGINE
from whisper_farm.models import ModelName
from whisper_farm.times import HOURS


def data_folder() -> Path:
    """Where this user's farm keeps its state: `WHISPER_FARM_DATA`, else the platform's place for user data."""
    if chosen := os.environ.get("WHISPER_FARM_DATA"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "whisper-farm"


MAX_FETCHES = 64


class Policy(BaseSettings):
    """How the queue treats leases, retries and hedges."""

    model_config = SettingsConfigDict(env_prefix="WHISPER_FARM_", frozen=True)

    lease_seconds: float = Field(default=20, gt=0, le=3600)
    """How long a claim runs unheard of before somebody else may claim the job."""
    heartbeat_seconds: float = Field(default=5, gt=0, le=900)
    """How often a worker beats. Both are stretched as the fleet grows."""
    beats_per_second: float = Field(default=100, gt=0, le=100_000)
    """Heartbeats a second the coordinators should have to answer at most; the stretch keeps to it."""
    attempt_seconds: float = Field(default=3600, ge=10, le=864_000)
    """Time for one try at a job, and a minute more for each second of sound; then others may claim it, though its
    worker beats."""
    cut_seconds: float = Field(default=600, ge=10, le=864_000)
    """The same for whoever cuts a recording, until more chunks come in: each second of sound gives ten back."""
    max_attempts: int = Field(default=3, ge=1, le=20)
    """Charged attempts after which a job is set aside."""
    retry_base_seconds: float = Field(default=1, ge=0, le=3600)
    retry_max_seconds: float = Field(default=120, ge=0, le=86_400)
    """Back-off after a charged failure doubles from the base to the maximum, with jitter."""
    hedge_factor: float = Field(default=3, ge=1, le=100)
    hedge_min_seconds: float = Field(default=10, ge=0, le=86_400)
    """With nothing left to claim, a job that has run `factor` times its expected time is given out again, but not
    before the minimum."""
    language_speech_seconds: float = Field(default=5, ge=0, le=600)
    """Speech a chunk needs before it may decide the recording's language."""
    verify: float = Field(default=0, ge=0, le=1)
    """Share of the chunks that a second worker recognises, too, and of those called silence that somebody hears.
    `whisper-farm workers` says whose results differ."""
    max_audio_seconds: float = Field(default=360_000, gt=0, le=10_000_000)
    """Sound one recording may have."""
    free_audio_seconds: float = Field(default=14_400, ge=0, le=10_000_000)
    audio_seconds_per_byte: float = Field(default=0.1, ge=0, le=10_000_000)
    """Beyond the free seconds a recording may have so many for each of its bytes: half a kilobyte of silence must not
    become a day of work."""
    max_chunks: int = Field(default=50_000, ge=1, le=1_000_000)
    """Chunks one recording may have."""


class Limits(BaseModel):
    """What administrators may change while the farm works; it then counts more than what its servers were given."""

    model_config = ConfigDict(frozen=True)

    max_workers: int = Field(default=1000, ge=1, le=100_000)
    """Workers that one token may have at the same time."""
    max_unfinished: int = Field(default=5000, ge=1, le=1_000_000)
    """Transcriptions of one owner that are not finished. Administrators have no such bound."""
    max_waiting_seconds: float = Field(default=3_600_000, ge=0, le=1e10)
    """Sound of one owner that is cut and waits to be recognised, beyond which nothing more is taken of that owner."""
    max_waiting_bytes: int = Field(default=200 << 30, ge=1, le=1 << 50)
    """Of uploads one owner has announced or sent, and not submitted."""
    max_stored_bytes: int = Field(default=1 << 40, ge=0, le=1 << 50)
    """Of all recordings of one owner, beyond which nothing more is taken. Administrators have none of these bounds."""
    retention_days: float | None = Field(default=None, ge=0, le=36_500)
    """Finished transcriptions older than this are deleted with their audio; None keeps them."""


class ServerSettings(BaseSettings, Limits):
    """The coordinator."""

    model_config = SettingsConfigDict(env_prefix="WHISPER_FARM_", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65_535)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    """The server's certificate, with those that lead to it, and its key, as PEM files: it speaks HTTPS itself."""
    data: Path = Field(default_factory=data_folder)
    database: str | None = None
    """`sqlite:///PATH` or `postgresql://…`; None means `farm.db` in the data folder."""
    blobs: str | None = None
    """A folder, or `s3://bucket/prefix`; None means `blobs` in the data folder."""
    blobs_public_endpoint: str | None = None
    """The object store's address as workers and clients reach it, where it differs from ours."""
    public_url: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    """Further names by which browsers reach this server; its addresses and the names of its machine need no mention."""
    proxy_user_header: str = Field(default="", pattern=r"^[A-Za-z0-9-]{0,64}$", examples=["Remote-User"])
    """A header in which a reverse proxy names the person it has let in (Authelia: `Remote-User`). Empty: none does."""
    proxy_networks: tuple[IPvAnyNetwork, ...] = ()
    """Addresses of reverse proxies. They alone say who is let in, and in `X-Forwarded-For` who asks."""
    max_upload_bytes: int = Field(default=20 << 30, ge=1, le=1 << 44)
    max_body_bytes: int = Field(default=4 << 20, ge=1024, le=1 << 26)
    """Of any request that is not an upload: the results of a worker are the largest."""
    max_call_bytes: int = Field(default=64 << 10, ge=1024, le=1 << 20)
    """Of a call that is neither an upload nor a worker's list of jobs, chunks or results."""
    event_days: float = Field(default=7, gt=0, le=3650)
    """Events older than this are retired."""
    orphan_hours: float = Field(default=24, ge=1, le=8760)
    """Blobs nothing refers to are swept when they are older than this, and uploads forgotten of which nothing has come
    for so long. Not less than an hour: within it what was stored must come to be named by a row."""
    max_open_uploads: int = Field(default=1000, ge=1, le=100_000)
    """Uploads one owner may have announced and not sent."""
    disk_reserve_bytes: int = Field(default=256 << 20, ge=0, le=1 << 50)
    """Room that uploads leave on the disk of the blobs, so that the database, chunks and results find some."""
    max_uploads_at_once: int = Field(default=16, ge=1, le=10_000)
    """Uploads of one owner that this server takes in at the same time: each may hold some megabytes of memory."""
    max_streams: int = Field(default=50, ge=1, le=100_000)
    """Event streams of one owner at the same time."""
    max_tokens: int = Field(default=200, ge=1, le=100_000)
    """Valid tokens one owner may make."""
    max_user_priority: int = Field(default=0, ge=-100, le=100)
    """Highest priority that users may ask for."""
    trash_hours: float = Field(default=72, ge=0, le=8760)
    """Blobs nothing refers to are kept for so long after that was found out: a backup of the database may know them."""
    local_sources: bool = False
    """Accept paths of this machine as sources (the one-command farm only)."""
    default_model: str = Field(default="small", pattern=r"^[^\x00-\x1f]{1,300}$")
    """What OpenAI's `whisper-1` stands for, and what the app asks for: a model's name, or ENGINE:MODEL."""
    models: tuple[ModelName, ...] | None = None
    """Models that may be asked for, each as its name or ENGINE:MODEL; None means any."""
    private_networks: tuple[IPvAnyNetwork, ...] = ()
    """Networks that are not public and that links, feeds and webhooks may lead to all the same, as `127.0.0.0/8`."""
    fetches_at_once: int = Field(default=4, ge=1, le=MAX_FETCHES)
    """Links that this server fetches at once, and as many again of owners of whom none is being fetched; each may hold
    16 MiB of memory."""
    fetch_hours: float = Field(default=24, gt=0, le=168)
    """Time to fetch what a link leads to, all tries and pauses included."""
    feed_minutes: float = Field(default=30, ge=1, le=10_080)
    """How often a feed is looked at."""
    yt_dlp: str = "yt-dlp"
    """The program that takes recordings out of pages of video sites, where it is installed; empty uses none."""
    local_models: bool = False
    """Accept a folder of the worker as a model; else a model is a name or a repository of the model hub."""
    pools: Path | None = None
    """A file of pools: the machines that this farm may start. None starts none."""
    pools_dry_run: bool = False
    """Say what would be started and ended, and do nothing."""
    log_format: Literal["console", "json"] = "console"


class WorkerSettings(BaseSettings):
    """One worker process."""

    model_config = SettingsConfigDict(env_prefix="WHISPER_FARM_WORKER_", frozen=True)

    server: str = "http://127.0.0.1:8765"
    token: str = ""
    name: str | None = None
    engines: tuple[str, ...] = (DEFAULT_ENGINE,)
    models: tuple[ModelName, ...] | None = None
    """Models this worker serves; None means any."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    device_index: int = Field(default=0, ge=0, le=64)
    compute_type: str = "default"
    slots: int | None = Field(default=None, ge=1, le=1024)
    """Batches recognised at the same time; None chooses by device and cores."""
    batch_size: int | None = Field(default=None, ge=1, le=256)
    threads: int | None = Field(default=None, ge=1, le=1024)
    model_dir: str | None = None
    local_files_only: bool = False
    cuts: bool = True
    label: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,64}$", examples=["night"])
    """Work on transcriptions with this label only."""
    chunk_timeout_seconds: float = Field(default=1800, gt=0, le=86_400)
    """A recogniser that spends longer than this on one batch is killed and its chunks tried again."""
    request_timeout_seconds: float = Field(default=30, gt=0, le=600)
    grace_seconds: float | None = Field(default=None, ge=0, le=86_400)
    """After one signal, what is not finished within this time is handed back and the worker ends; None waits."""
    idle_seconds: float | None = Field(default=None, gt=0, le=31_536_000)
    life_seconds: float | None = Field(default=None, gt=0, le=31_536_000)
    patience_seconds: float | None = Field(default=None, gt=0, le=31_536_000)
    """The worker ends by itself: without work for so long; so long after its start; when the farm was away so long."""
    hours: str | None = Field(default=None, pattern=HOURS, examples=["22:00-07:00"])
    """It works within these hours only, by the clock of its machine, and rests in between without anything loaded."""
    parent: int | None = Field(default=None, ge=1)
    """The process that started it: the worker ends when that one is gone."""
    provider: str | None = Field(default=None, min_length=1, max_length=255)
    launch_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    machine_id: str | None = Field(default=None, min_length=1, max_length=255)
    region: str | None = Field(default=None, min_length=1, max_length=255)
    price_per_hour: float | None = Field(default=None, ge=0, le=1000)
    accelerators: tuple[str, ...] = Field(default=(), max_length=16)
    """What it tells the farm of the machine that it was placed on."""
