"""The API of whisper-asr-webservice, as Bazarr and others use it: `/asr`, `/detect-language` and `/status`.

Options are in the query, the recording is the part `audio_file`; `encode=false` says that it is raw sound (16 bits,
16 kHz, mono). These clients do not look at the status: whatever comes back is their subtitle. So an error has no body,
and says what it is in a header. They send no token either, but programs that take an address take one with a password:
`http://any:TOKEN@FARM:8765`.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request, Response, Security
from pydantic import BaseModel
from starlette.types import Scope

from whisper_farm import __version__
from whisper_farm.coordinator.answers.errors import documented
from whisper_farm.coordinator.coordinator import Coordinator, Farm
from whisper_farm.coordinator.dialect import sub_application
from whisper_farm.coordinator.form import FileWanted, Form, read_form
from whisper_farm.coordinator.layers.auth import MAX_SECRET, AnyCaller, Caller, bearer, must_have, secret_of
from whisper_farm.coordinator.one_call import (
    ID_HEADER,
    language_of,
    missing_seconds,
    options_for,
    submit_file,
    wait_for,
)
from whisper_farm.errors import (
    EngineError,
    FarmError,
    InvalidRequest,
    ModelUnavailable,
    NoAudioTrack,
    NotAudio,
    OptionUnsupported,
    SourceEmpty,
    WrongState,
)
from whisper_farm.models import engine_and_model
from whisper_farm.protocol.wire import ErrorDetail
from whisper_farm.transcript.formats import FORMATS
from whisper_farm.transcript.languages import LANGUAGES, code_of
from whisper_farm.transcript.options import RecognitionOptions

PART = "audio_file"
ERROR_HEADER = "Whisper-Farm-Error"
MOST_MESSAGE = 500
MOST_PROMPT = 4096
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
OUTPUTS = ("txt", "vtt", "srt", "tsv", "json")
UNDETERMINED = "und"


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

    async def enter(scope: Scope) -> Caller:
        return must_have(await coordinator.tokens.caller(_password(scope) or secret_of(scope)), "user", "admin")

    open_paths = frozenset({"/status"})
    return sub_application(coordinator, [router], enter=enter, open_paths=open_paths, uploads="/", shape=without_body)


def without_body(status: int, detail: ErrorDetail) -> Response:
    """An error that nobody can take for a subtitle."""
    told = re.sub(r"[^ -~]", "?", f"{detail.code}: {detail.message}")[:MOST_MESSAGE]
    return Response(status_code=status, headers={ERROR_HEADER: told}, media_type="text/plain")


def _password(scope: Scope) -> str | None:
    """The password of HTTP's basic authentication; None if there is none."""
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:6].lower() == b"basic " and len(value) <= 2 * MAX_SECRET:
            try:
                user, _, password = base64.b64decode(value[6:], validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return None
            return password or user
    return None


_NOTHING: dict[str, Any] = {"content": {"text/plain": {"schema": {"type": "string", "maxLength": 0}}}}
_MAY_FAIL: tuple[type[FarmError], ...] = (
    *(WrongState, SourceEmpty, NotAudio, NoAudioTrack),
    *(OptionUnsupported, ModelUnavailable, EngineError),
)


def _documented(*kinds: type[FarmError]) -> dict[int | str, dict[str, Any]]:
    return {status: answer | _NOTHING for status, answer in documented(*kinds).items()}


def _call(*names: str) -> dict[str, Any]:
    form = {"type": "object", "required": [PART], "properties": {PART: {"type": "string", "format": "binary"}}}
    return {
        "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names],
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
    }


router = APIRouter(tags=["asr"])


@router.get("/status")
async def asr_status() -> Status:
    """Who answers."""
    return Status()


@router.post(
    "/asr",
    response_class=Response,
    dependencies=[Security(bearer)],
    responses={
        **_documented(*_MAY_FAIL),
        200: {"description": "The transcript in the format asked for.", "content": {"text/plain": {}}},
    },
    openapi_extra=_call("encode", "task", "language", "initial_prompt", "output", "video_file"),
)
async def asr(request: Request, caller: AnyCaller, farm: Farm) -> Response:
    """Transcribe or translate a recording, and wait for it. The same upload again joins the one at work."""
    form = await read_form(request, farm.blobs, _wanted(request, farm))
    try:
        output = request.query_params.get("output") or "txt"
        if output not in OUTPUTS:
            raise InvalidRequest(f"`output` is one of {', '.join(OUTPUTS)}.")
        options = _options(request, farm)
    except FarmError:
        await farm.blobs.delete([form.file.key])
        raise
    transcription_id = await submit_file(farm, caller, form.file, options)
    row = await wait_for(farm, transcription_id, request)
    content = await farm.renderer.file(row.transcript_key or "", FORMATS[output])
    headers = {
        "Asr-Engine": options.engine,
        "Content-Disposition": f'attachment; filename="{quote(form.file.name)}.{output}"',
        ID_HEADER: transcription_id,
        **missing_seconds(row),
    }
    return Response(content, media_type="text/plain; charset=utf-8", headers=headers)


@router.post(
    "/detect-language",
    dependencies=[Security(bearer)],
    responses=_documented(*_MAY_FAIL),
    openapi_extra=_call("encode"),
)
async def detect_language(request: Request, caller: AnyCaller, farm: Farm, response: Response) -> DetectedLanguage:
    """Which language is spoken. Goes before everything that waits in the queue, and leaves nothing behind."""
    form: Form = await read_form(request, farm.blobs, _wanted(request, farm, DETECTION_SECONDS))
    options = options_for(engine_and_model(farm.settings.default_model))
    found = await language_of(farm, caller, form.file, options, request)
    if found is None:
        return DetectedLanguage()
    code, probability = found
    return DetectedLanguage(detected_language=LANGUAGES.get(code, code), language_code=code, confidence=probability)


def _wanted(request: Request, farm: Coordinator, seconds: int | None = None) -> FileWanted:
    """Raw sound becomes a WAV file; of it, the first seconds are enough where only they are asked about."""
    limit = farm.settings.max_upload_bytes
    if request.query_params.get("encode", "true").lower() not in ("false", "0"):
        return FileWanted(PART, limit)
    return FileWanted(PART, limit, WAV_HEAD, None if seconds is None else seconds * BYTES_PER_SECOND)


def _options(request: Request, farm: Coordinator) -> RecognitionOptions:
    asked = request.query_params
    try:
        language = code_of(asked.get("language", "")[:100])
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    return options_for(
        engine_and_model(farm.settings.default_model),
        task=asked.get("task") or "transcribe",
        language=language,
        initial_prompt=asked.get("initial_prompt", "").replace("\0", "")[-MOST_PROMPT:] or None,
    )
