"""What an administrator looks after: workers, codes to join by, access tokens, the server and its limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from whisper_farm.protocol.wire import (
    Answer,
    Days,
    Id,
    Name,
    Request,
)
from whisper_farm.settings import Limits
from whisper_farm.times import HOURS

Scope = Literal["admin", "user", "worker"]
WorkerAction = Literal["pause", "pause-now", "resume", "drain", "dismiss"]
"""Take no more jobs, after what it holds or at once; take some again; leave after what it holds, or at once."""


class WorkerView(Answer):
    id: Id
    name: Name
    version: Name
    platform: Name
    slots: int
    engines: list[dict[str, Any]]
    state: Literal["live", "silent", "draining", "dismissed", "gone"]
    """`silent`: live, not paused, and not heard of for a lease; nobody counts on it until it is heard again."""
    paused: bool = False
    """It stays, and is given no more jobs until it is resumed."""
    hours: str | None = None
    """The hours of its machine's day in which it works, as whoever started it said."""
    wanted_hours: str | None = None
    """As an administrator wants them, empty for any; they count more."""
    resting: bool = False
    """It is outside of its hours, and offers nothing."""
    jobs: int
    last_seen_at: float
    speed: float | None = None
    """Audio-seconds a second of recognition, over all it has done."""
    compared: int = 0
    differed: int = 0
    """Its results that a second worker's were held against, and those of them that were not alike."""


class WorkingHours(Request):
    """Hours such as `22:00-07:00`, empty for any; None leaves them to the worker."""

    hours: Annotated[str, Field(pattern=f"{HOURS}|^$")] | None


class WorkerList(Answer):
    workers: tuple[WorkerView, ...]


class JoinCode(Answer):
    """A code by which one worker joins; with a name the worker that has used it, and waits to be let in."""

    id: Id
    made_by: Name
    owner: Name = ""
    """Whose the worker is."""
    approved: bool = False
    """Whether the worker need not wait."""
    created_at: float
    expires_at: float
    name: Name | None = None
    code: str | None = None
    """What is typed: only in the answer that makes it."""


class JoinCodes(Answer):
    codes: tuple[JoinCode, ...]


class NewToken(Request):
    name: Name
    scope: Scope
    owner: Name | None = None
    """Whom it acts for; None means the caller (admins may name others)."""
    days: Days | None = None
    """It ends after so many days, and not later than the token that makes it. None: with that one alone."""


class TokenView(Answer):
    id: Id
    name: Name
    owner: Name
    scope: Scope
    created_at: float
    last_used_at: float | None = None
    expires_at: float | None = None
    token: str | None = None
    """The secret itself: only in the answer that makes it."""


class TokenList(Answer):
    tokens: tuple[TokenView, ...]


class ServerView(Answer):
    """Who answers, and what it can do: `doctor` prints it."""

    version: Name
    protocol: int
    database: str
    blobs: str
    scope: Scope
    owner: Name
    workers_live: int
    jobs_queued: int
    max_upload_bytes: int


class LimitsChange(Request, Limits):
    """The limits that are to change: those that are named."""


class LimitsView(Answer):
    """The limits in force, and those that the server was given by its settings."""

    limits: Limits
    server: Limits
