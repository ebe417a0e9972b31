"""Deepgram's API for recordings: `POST /v1/listen` with the recording itself as body, or with the address of one.

The model is the setting `default_model`, whatever was asked for. Parameters that have no meaning here do nothing; so
do newer ones. Speakers are told apart by their voices (`diarize`), or each has a channel (`multichannel`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from statistics import fmean
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from whisper_farm.coordinator import one_call
from whisper_farm.coordinator.answers.errors import documented_as, elsewhere
from whisper_farm.coordinator.answers.files import OCTETS
from whisper_farm.coordinator.answers.openai_audio import json_format
from whisper_farm.coordinator.answers.openapi import binary
from whisper_farm.coordinator.coordinator import Coordinator, Farm
from whisper_farm.coordinator.dialect import Dialect, sub_application
from whisper_farm.coordinator.form import read_body
from whisper_farm.coordinator.layers.auth import AnyCaller, bearer, bearer_token, secret_of
from whisper_farm.coordinator.layers.limits import SMALL_BODY_BYTES
from whisper_farm.coordinator.submissions import take_submission
from whisper_farm.errors import AddressRefused, FetchFailed, InvalidRequest
from whisper_farm.models import engine_and_model
from whisper_farm.protocol.client import Submission
from whisper_farm.protocol.wire import Answer, ErrorDetail, Url
from whisper_farm.transcript.options import MOST_HINT
from whisper_farm.transcript.transcript import Segment, Transcript, Word


class DeepgramError(Answer):
    """The shape of every answer that is no success."""

    err_code: str
    err_msg: str


class ListenQuery(BaseModel):
    """What is wanted. What is not here does nothing."""

    language: one_call.SpokenLanguage = Field(default=None, description="A code or a tag; without it, it is found out.")
    keyterm: list[str] = Field(default=[], description="Names and words to expect.")
    multichannel: bool = Field(default=False, description="Hear two channels apart, as two speakers.")
    diarize: bool = Field(default=False, description="Tell speakers apart: words have a number.")
    utterances: bool = Field(default=False, description="Say what was said in pieces, too.")


class Link(BaseModel):
    """Where the recording is."""

    url: Url


def deepgram_api(coordinator: Coordinator) -> FastAPI:
    """The dialect: a token of scope `user` or `admin`, as Deepgram's clients send theirs or as a bearer."""
    presented = partial(secret_of, kinds=("token", "bearer"))
    enter = bearer_token(coordinator.tokens, "user", "admin", presented=presented)
    return sub_application(coordinator, [router], Dialect(enter, uploads="/", shape=deepgram_shape))


def deepgram_shape(status: int, detail: ErrorDetail) -> Response:
    """An error as Deepgram writes it."""
    body = DeepgramError(err_code=detail.code.upper(), err_msg=detail.message)
    return Response(body.model_dump_json(), elsewhere(status), media_type="application/json")


def _asked(request: Request) -> ListenQuery:
    """Read here, so that the document has no answer 422 of the framework's."""
    given = request.query_params
    try:
        return ListenQuery.model_validate({**given, "keyterm": given.getlist("keyterm")})
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


QUERY = [
    {"name": name, "in": "query", "schema": schema}
    for name, schema in ListenQuery.model_json_schema()["properties"].items()
]
router = APIRouter(tags=["deepgram"], dependencies=[Security(bearer)])


@router.post(
    "/v1/listen",
    responses=documented_as(DeepgramError, *one_call.MAY_FAIL, AddressRefused, FetchFailed),
    openapi_extra={"parameters": QUERY, "requestBody": {"required": True, **binary(OCTETS)}},
)
async def listen(
    request: Request, asked: Annotated[ListenQuery, Depends(_asked)], caller: AnyCaller, farm: Farm
) -> Response:
    """Transcribe a recording and wait for it. The same upload again joins the one at work."""
    options = one_call.options_for(
        engine_and_model(farm.settings.default_model),
        language=asked.language,
        hotwords=", ".join(asked.keyterm)[:MOST_HINT] or None,
        channel="each" if asked.multichannel else "mix",
        diarize=asked.diarize and not asked.multichannel,
    )
    facts = {"created": datetime.now(UTC).isoformat(), "sha256": ""}
    if request.headers.get("content-type", "").startswith("application/json"):
        url = (await _link(request)).url
        made, _ = await take_submission(farm, Submission(name=url[:255], url=url, options=options), caller)
    else:
        sent = await read_body(request, farm.blobs, farm.settings.max_upload_bytes)
        facts["sha256"] = sent.sha256
        made = await one_call.submit_file(farm, caller, sent, options)
    format = json_format("deepgram", lambda heard: _document(heard, asked, {"request_id": made, **facts}))
    return await one_call.transcript_of(farm, made, format, request)


async def _link(request: Request) -> Link:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > SMALL_BODY_BYTES:
            break
    try:
        return Link.model_validate_json(body)
    except ValidationError:
        raise InvalidRequest(
            'A body of JSON must be {"url": "https://…"}; send a recording with its own type.'
        ) from None


def _document(heard: Transcript, asked: ListenQuery, facts: dict[str, str]) -> dict[str, Any]:
    found = list(dict.fromkeys(one.speaker for one in heard.segments if one.speaker is not None))
    told_apart = found if asked.diarize and not asked.multichannel else []
    numbers: dict[str | None, int] = {name: number for number, name in enumerate(told_apart)}
    channels: Sequence[str | None] = (sorted(found) if asked.multichannel else []) or [None]
    said = [[one for one in heard.segments if channel in (None, one.speaker)] for channel in channels]
    name = heard.maker.model
    results: dict[str, Any] = {
        "channels": [
            {"alternatives": [_alternative(one, numbers)], "detected_language": heard.language} for one in said
        ]
    }
    if asked.utterances:
        results["utterances"] = [
            {
                "id": f"{facts['request_id']}-{number}",
                "start": segment.start,
                "end": segment.end,
                "channel": channels.index(segment.speaker) if segment.speaker in channels else 0,
                **_numbered(segment, numbers),
                **_alternative([segment], numbers),
            }
            for number, segment in enumerate(heard.segments)
        ]
    metadata = {**facts, "duration": heard.duration, "channels": len(said), "models": [name]}
    return {"metadata": {**metadata, "model_info": {name: {"name": name, "arch": "whisper"}}}, "results": results}


def _alternative(segments: Sequence[Segment], numbers: Mapping[str | None, int]) -> dict[str, Any]:
    words = [word for segment in segments for word in segment.words]
    return {
        "transcript": "".join(segment.text for segment in segments).strip(),
        "confidence": fmean([word.probability or 0.0 for word in words] or [0.0]),
        "words": [_word(word) | _numbered(segment, numbers) for segment in segments for word in segment.words],
    }


def _numbered(segment: Segment, numbers: Mapping[str | None, int]) -> dict[str, int]:
    """Whose words they are, where speakers are told apart and this one is known."""
    return {"speaker": numbers[segment.speaker]} if segment.speaker in numbers else {}


def _word(word: Word) -> dict[str, Any]:
    written = word.text.strip()
    return {
        "word": written.lower().strip(".,!?;:\"'()…"),
        "start": word.start,
        "end": word.end,
        "confidence": word.probability or 0.0,
        "punctuated_word": written,
    }
