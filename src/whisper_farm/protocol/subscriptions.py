"""Feeds and webhooks: what somebody sets up once, and the farm then does by itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from whisper_farm.protocol.wire import Answer, Days, Id, Name, Request, Url
from whisper_farm.transcript.options import RecognitionOptions


class NewFeed(Request):
    """Have the episodes of a feed transcribed, those that are there and those that come."""

    url: Url
    options: RecognitionOptions = Field(default_factory=RecognitionOptions)
    count: int = Field(default=3, ge=1, le=1000)
    """The newest episodes are looked at, so many."""
    days: Days | None = None
    """Only episodes that are not older."""
    words: Annotated[str, Field(max_length=200)] = ""
    """Only episodes with these words in their title."""
    keep_transcripts: bool = False
    """Leave episodes alone that have a transcript of their publisher."""


class FeedView(Answer):
    """A feed. `served_at` is the path of the same feed with our transcripts, for anybody who knows it."""

    id: Id
    owner: Name
    url: str
    title: str
    served_at: str
    count: int
    days: float | None = None
    words: str = ""
    keep_transcripts: bool = False
    episodes: int
    """Taken so far."""
    transcribed: int
    failed: int = 0
    error: str | None = None
    """Why the last look was in vain: a code, a colon and words."""
    looked_at: float | None = None
    next_at: float
    created_at: float


class FeedList(Answer):
    feeds: tuple[FeedView, ...]


class NewWebhook(Request):
    """Where messages about the own transcriptions go."""

    url: Url
    progress: bool = False
    """Tell of each tenth that is done, too, and not of the end alone."""


class WebhookView(Answer):
    """A webhook. `secret` verifies its messages: only in the answer that makes it."""

    id: Id
    owner: Name
    url: str
    progress: bool
    created_at: float
    secret: str | None = None


class WebhookList(Answer):
    webhooks: tuple[WebhookView, ...]


DeliveryState = Literal["pending", "delivered", "failed"]


class DeliveryView(Answer):
    """One message: `tries` so far, the answer's `status` and why the last one was in vain."""

    id: Id
    kind: str
    """`webhook_test`, `transcription_progress`, or the event of which it tells."""
    transcription_id: Id | None = None
    state: DeliveryState
    tries: int
    next_at: float
    status: int | None = None
    error: str | None = None
    created_at: float


class DeliveryList(Answer):
    deliveries: tuple[DeliveryView, ...]
