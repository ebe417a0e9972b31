"""The API of whisper-asr-webservice, as Bazarr and others use it: `/asr`, `/detect-language` and `/status`.

Options are in the query, the recording is the part `audio_file`; `encode=false` says that it is raw sound (16 bits,
16 kHz, mono). These clients do not look at the status: whatever comes back is their subtitle. So an error has no body,
and says what it is in a header. They send no token either, but programs that take an address take one with a password:
`http://any:TOKEN@FARM:8765`.
"""

from __future__ import annotations

import base64
import re
import struct
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Query, Request, Response, Security
from pydantic import BaseModel, Field, model_validator
from starlette.responses import PlainTextResponse
from starlette.types import Scope

from whisper_farm import __version__
from whisper_farm.coordinator import one_call
from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.answers.openapi import CuesAsked, form_with_file
from whisper_farm.coordinator.coordinator import Coordinator, Farm
from whisper_farm.coordinator.dialect import Dialect, sub_application
from whisper_farm.coordinator.form import EVERY_BYTE, FileWanted, read_form
from whisper_farm.coordinator.layers.auth import MAX_SECRET, AnyCaller, bearer, bearer_token, secret_of
from whisper_farm.coordinator.layers.headers import header
from whisper_farm.models import engine_and_model
from whisper_farm.protocol.wire import ErrorDetail
from whisper_farm.transcript.formats import FORMATS
from whisper_farm.transcript.languages import LANGUAGES
from whisper_farm.transcript.options import Task

PART = "audio_file"
ERROR_HEADER = "Whisper-Farm-Error"
MOST_MESSAGE = 500
BYTES_PER_SECOND = 32_000
"""Of raw sound."""
DETECTION_SECONDS = 30
UNBOUNDED = 0xFFFFFFFF
WAV_HEAD = b"RIFF%sWAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00%s%s\x02\x00\x10\x00data%s" % (
    struct.pack("<I", UNBOUNDED),
    struct.pack("<I", BYTES_PER_SECOND // 2),
    struct.pack("<I", BYTES_PER_SECOND),
    struct.pack("<I", UNBOUNDED),
)
"""Raw sound with this before it is a WAV file that goes on to its end."""
UNDETERMINED = "und"


class Sent(BaseModel):
    """How the recording is sent. What is empty was left out."""

    encode: bool = Field(default=True, description="False: it is raw sound.")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_is_empty(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if value != ""}


class AsrQuery(Sent, CuesAsked):
    """What is wanted of it. What is not here does nothing."""

    task: Task = "transcribe"
    language: one_call.SpokenLanguage = None
    initial_prompt: one_call.Prompt = None
    output: Literal["txt", "vtt", "srt", "tsv", "json"] = "txt"
    diarize: bool = False
    min_speakers: int | None = None
    max_speakers: int | None = None

    def options(self) -> dict[str, Any]:
        """Those of recognition. How many speakers there are does nothing where nobody tells them apart."""
        speakers = {"diarize", "min_speakers", "max_speakers"} if self.diarize else set()
        return self.model_dump(include={"task", "language", "initial_prompt"} | speakers)


class Status(BaseModel):
    """Bazarr shows the version when it tests its connection."""

    version: str = __version__


class DetectedLanguage(BaseModel):
    """`und` where nobody speaks, or nothing could be found out."""

    detected_language: str = "undetermined"
    language_code: str = UNDETERMINED
    confidence: float = 0.0


def asr_webservice(coordinator: Coordinator) -> FastAPI:
    """The dialect: a token of scope `user` or `admin`, as a bearer or as the password of the address."""
    enter = bearer_token(coordinator.tokens, "user", "admin", presented=_presented)
    own = Dialect(enter, open_paths=frozenset({"/status"}), uploads="/", shape=without_body)
    return sub_application(coordinator, [router], own)


def without_body(status: int, detail: ErrorDetail) -> Response:
    """An error that nobody can take for a subtitle."""
    told = re.sub(r"[^ -~]", "?", f"{detail.code}: {detail.message}")[:MOST_MESSAGE]
    return Response(status_code=status, headers={ERROR_HEADER: told}, media_type="text/plain")


def _presented(scope: Scope) -> str:
    kind, _, told = header(scope, "authorization").partition(" ")
    if kind.lower() == "basic" and len(told) <= 2 * MAX_SECRET:
        with suppress(ValueError):
            user, _, password = base64.b64decode(told, validate=True).decode().partition(":")
            if password or user:
                return password or user
    return secret_of(scope)


_NOTHING: dict[str, Any] = {"content": {"text/plain": {"schema": {"type": "string", "maxLength": 0}}}}
_CALL: dict[str, Any] = {
    "dependencies": [Security(bearer)],
    "responses": {status: answer | _NOTHING for status, answer in documented(*one_call.MAY_FAIL).items()},
    "openapi_extra": form_with_file(PART),
}
router = APIRouter(tags=["asr"])


@router.get("/status")
async def asr_status() -> Status:
    """Who answers."""
    return Status()


@router.post("/asr", response_class=PlainTextResponse, **_CALL)
async def asr(request: Request, asked: Annotated[AsrQuery, Query()], caller: AnyCaller, farm: Farm) -> Response:
    """Transcribe or translate a recording, and wait for it. The same upload again joins the one at work."""
    recogniser = engine_and_model(farm.settings.default_model)
    options = one_call.options_for(recogniser, **asked.options())
    format = replace(FORMATS[asked.output].laid_out(asked.layout), media_type="text/plain; charset=utf-8")
    form = await read_form(request, farm.blobs, _wanted(farm, asked))
    transcription_id = await one_call.submit_file(farm, caller, form.file, options)
    answer = await one_call.transcript_of(farm, transcription_id, format, request)
    answer.headers["Asr-Engine"] = options.engine
    answer.headers["Content-Disposition"] = f'attachment; filename="{quote(form.file.name)}.{asked.output}"'
    return answer


@router.post("/detect-language", **_CALL)
async def detect_language(
    request: Request, asked: Annotated[Sent, Query()], caller: AnyCaller, farm: Farm
) -> DetectedLanguage:
    """Which language is spoken. Goes before everything that waits in the queue, and leaves nothing behind."""
    form = await read_form(request, farm.blobs, _wanted(farm, asked, DETECTION_SECONDS * BYTES_PER_SECOND))
    options = one_call.options_for(engine_and_model(farm.settings.default_model))
    found = await one_call.language_of(farm, caller, form.file, options, request)
    if found is None:
        return DetectedLanguage()
    code, probability = found
    return DetectedLanguage(detected_language=LANGUAGES.get(code, code), language_code=code, confidence=probability)


def _wanted(farm: Coordinator, asked: Sent, most_raw: int = EVERY_BYTE) -> FileWanted:
    """Raw sound becomes a WAV file; of it, the first seconds are enough where only they are asked about."""
    limit = farm.settings.max_upload_bytes
    return FileWanted(PART, limit) if asked.encode else FileWanted(PART, limit, WAV_HEAD, most_raw)
