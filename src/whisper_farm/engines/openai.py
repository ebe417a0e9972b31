"""Any server with OpenAI's audio API as a recogniser: OpenAI, Groq, speaches, another farm. A chunk is a call.

`OPENAI_BASE_URL` and `OPENAI_API_KEY` of the worker say which server and with what key; nobody else can.

Promises: a server that is busy or away is asked again, not before it wants to be, for `TOTAL_SECONDS` in all. When it
asks for patience, all slots have it. Answers are bounded and checked. The key is in no message.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from whisper_farm.audio.sound import SAMPLE_RATE
from whisper_farm.engines.against_speech import AgainstSpeech
from whisper_farm.engines.engine import (
    ChunkAudio,
    Engine,
    EngineFacts,
    EngineSettings,
    EngineTraits,
    Progress,
    Recognition,
)
from whisper_farm.engines.whisper_json import MOST_BYTES, recognition_of
from whisper_farm.errors import EngineError, EngineUnavailable, ModelUnavailable
from whisper_farm.transcript.options import RecognitionOptions

if TYPE_CHECKING:
    import httpx

OPENAI = "https://api.openai.com/v1"
SLOTS = 4
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 300.0
TOTAL_SECONDS = 600.0
"""For one chunk, all tries and pauses included."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
LATER = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses that can be others a little later."""
_LOOK_SECONDS = 0.2
_TOLD_LETTERS = 300


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """What the server said. `after_seconds` is how long it wants to be left alone, if it says so."""

    status: int
    body: bytes
    after_seconds: float | None = None


class OpenAIEngine:
    """Sends each chunk to the server."""

    def __init__(self, client: httpx.Client, facts: EngineFacts, slots: int) -> None:
        self.facts = facts
        self._client = client
        self._calls = ThreadPoolExecutor(2 * slots, "openai")
        self._turn = threading.Lock()
        self._not_before = 0.0

    def recognise(
        self, chunks: Sequence[ChunkAudio], options: RecognitionOptions, cancelled: Callable[[int], bool]
    ) -> Iterator[tuple[int, Recognition]]:
        """See the contract in `engine.Engine`."""
        from whisper_farm.audio.flac import encode

        for index, chunk in enumerate(chunks):
            language = chunk.language or chunk.expected_language
            call = partial(self._call, self._form(language, options), encode(chunk.audio), options.task)
            body = self._answered(call, partial(cancelled, index))
            if body is not None:
                seconds = len(chunk.audio) / SAMPLE_RATE
                yield index, recognition_of(body, self.facts.version, seconds, language, options.word_timestamps)

    def _form(self, language: str | None, options: RecognitionOptions) -> dict[str, str | list[str]]:
        prompt = " ".join(filter(None, (options.hotwords, options.initial_prompt)))
        form: dict[str, str | list[str]] = {
            "model": options.model,
            "response_format": "verbose_json",
            "timestamp_granularities[]": ["word", "segment"] if options.word_timestamps else ["segment"],
        }
        form |= {"prompt": prompt} if prompt else {}
        return form | ({"language": language} if language and options.task == "transcribe" else {})

    def _call(self, form: dict[str, str | list[str]], flac: bytes, task: str) -> ServerAnswer:
        path = "audio/translations" if task == "translate" else "audio/transcriptions"
        file = {"file": ("chunk.flac", flac, "audio/flac")}
        with self._client.stream("POST", path, data=form, files=file) as answer:
            body = bytearray()
            for block in answer.iter_bytes():
                body += block
                if len(body) > MOST_BYTES:
                    raise EngineError(f"{self.facts.version} wrote more than {MOST_BYTES >> 20} MB for one chunk.")
            return ServerAnswer(answer.status_code, bytes(body), _seconds(answer.headers.get("Retry-After")))

    def _answered(self, call: Callable[[], ServerAnswer], cancelled: Callable[[], bool]) -> bytes | None:
        """The body of the answer that there is in the end; None if nobody wants it any more."""
        until, pause = time.monotonic() + TOTAL_SECONDS, FIRST_PAUSE_SECONDS
        while True:
            while (left := self._not_before - time.monotonic()) > 0 and not cancelled():
                time.sleep(min(left, _LOOK_SECONDS))
            answer = self._tried(call, until, cancelled)
            if answer is None:
                return None
            if answer.status == 200:
                return answer.body
            wait = answer.after_seconds if answer.after_seconds is not None else pause
            if answer.status not in LATER or time.monotonic() + wait > until:
                raise self._refusal(answer)
            with self._turn:
                self._not_before = max(self._not_before, time.monotonic() + wait)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _tried(
        self, call: Callable[[], ServerAnswer], until: float, cancelled: Callable[[], bool]
    ) -> ServerAnswer | None:
        """One call. A server that cannot be reached is as one that is away (503), and so is one that is too slow."""
        import httpx

        if cancelled():
            return None
        asked = self._calls.submit(call)
        while True:
            try:
                return asked.result(_LOOK_SECONDS)
            except TimeoutError:
                if cancelled():
                    return None
                if time.monotonic() > until:
                    return ServerAnswer(504, b"it was still busy with it")
            except httpx.HTTPError as error:
                return ServerAnswer(503, f"it cannot be reached: {type(error).__name__}".encode())

    def _refusal(self, answer: ServerAnswer) -> EngineError:
        who, told = self.facts.version, answer.body[:_TOLD_LETTERS].decode(errors="replace")
        if answer.status in (401, 403):  # what it says of a key is for the owner of the worker alone
            return EngineUnavailable(f"{who} does not accept OPENAI_API_KEY (status {answer.status}).")
        if answer.status == 404:
            return ModelUnavailable(f"{who} has no model {self.facts.model!r}, or no such API: {told}")
        if answer.status in LATER or answer.status < 400:
            return EngineUnavailable(f"{who} did not answer in {TOTAL_SECONDS:g} s (status {answer.status}): {told}")
        return EngineError(f"{who} refused a chunk (status {answer.status}): {told}")


def _seconds(retry_after: str | None) -> float | None:
    """What a server means by `Retry-After`: seconds or a date."""
    if retry_after is None or retry_after.isdigit():
        return float(retry_after[:9]) if retry_after else None
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _server() -> tuple[str, str]:
    """The address of the server and its host; EngineUnavailable if nobody has set one up."""
    base = os.environ.get("OPENAI_BASE_URL") or (OPENAI if os.environ.get("OPENAI_API_KEY") else "")
    address = urlsplit(base)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise EngineUnavailable(
            "The engine openai needs OPENAI_API_KEY, and for another server than OpenAI's OPENAI_BASE_URL (http…/v1)."
        )
    return f"{base.rstrip('/')}/", address.hostname


def _load(options: RecognitionOptions, settings: EngineSettings, progress: Progress) -> Engine:
    import httpx

    base, host = _server()
    key = os.environ.get("OPENAI_API_KEY")
    client = httpx.Client(
        base_url=base,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
    )
    facts = EngineFacts("openai", host, options.model, "", "cpu", "default")
    return AgainstSpeech(OpenAIEngine(client, facts, settings.slots))


TRAITS = EngineTraits(
    name="openai",
    load=_load,
    version=lambda: _server()[1],
    default_model=lambda device, task: "whisper-1",
    options=frozenset({"language", "task", "vad_filter", "word_timestamps", "initial_prompt", "hotwords"}),
    slots=SLOTS,
    needs=frozenset({"network"}),
)
