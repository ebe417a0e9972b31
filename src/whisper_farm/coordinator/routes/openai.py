"""OpenAI's audio API: programs that speak to OpenAI's Whisper speak to the farm, with another address and a token.

Parameters, answers and errors are OpenAI's. Parameters that have no meaning here are accepted and do nothing; so are
those that nobody knew when this was written. What differs is told in `docs/DOORS.md`. An upload that comes again joins
the transcription that is at work or done (`one_call.py`).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any, Literal

from fastapi import APIRouter, FastAPI, Request, Response, Security
from pydantic import Field
from starlette.responses import StreamingResponse

from whisper_farm import DEFAULT_ENGINE
from whisper_farm.coordinator import one_call
from whisper_farm.coordinator.answers.errors import documented_as, elsewhere
from whisper_farm.coordinator.answers.openai_audio import Wish, done_event, written_as
from whisper_farm.coordinator.answers.openapi import form_with_file
from whisper_farm.coordinator.coordinator import Coordinator, Farm
from whisper_farm.coordinator.dialect import Dialect, sub_application
from whisper_farm.coordinator.form import FileWanted, read_form
from whisper_farm.coordinator.layers.auth import AnyCaller, bearer, bearer_token
from whisper_farm.errors import FarmError, Internal, NotFound, Unauthorized
from whisper_farm.models import REPOSITORIES, engine_and_model
from whisper_farm.protocol.wire import Answer, ErrorDetail
from whisper_farm.protocol.worker import EngineOffer
from whisper_farm.store.database import Transaction
from whisper_farm.store.transcriptions import find
from whisper_farm.store.workers import WorkerRow, list_workers
from whisper_farm.transcript.options import FALLBACK_TEMPERATURES, MOST_HINT, Channel, Task

OPENAI_MODEL, DIARIZING_MODEL = OPENAI_MODELS = "whisper-1", "gpt-4o-transcribe-diarize"
"""OpenAI's names: the setting `default_model` says what they stand for. The second tells speakers apart, too."""
MEDIA_TYPE_EVENTS = "text/event-stream"


class OpenAIError(Answer):
    """What went wrong; `param` names the parameter, `code` is the farm's where OpenAI has none of its own."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class OpenAIErrorBody(Answer):
    """The shape of every answer that is no success."""

    error: OpenAIError


class Model(Answer):
    """A model that can be asked for."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


class ModelList(Answer):
    """All of them."""

    object: Literal["list"] = "list"
    data: tuple[Model, ...]


def openai_api(coordinator: Coordinator) -> FastAPI:
    """The dialect: a token of scope `user` or `admin`, errors as OpenAI writes them."""
    enter = bearer_token(coordinator.tokens, "user", "admin")
    return sub_application(coordinator, [router], Dialect(enter, uploads="/audio/", shape=openai_shape))


class AudioRequest(Wish):
    """What a call may say beside its file. What is not here does nothing."""

    model: str = Field(default=OPENAI_MODEL, description="`whisper-1`, or one of `GET /v1/models`.")
    prompt: one_call.Prompt = None
    temperature: float = Field(default=0, ge=0, le=1)
    language: one_call.SpokenLanguage = Field(
        default=None, description="A code or an English name; translations find it."
    )
    keywords: frozenset[str] = Field(
        default=frozenset(), alias="keywords[]", description="Names and words to expect, as Whisper is told them."
    )
    channel: Channel = Field(default="mix", description="The farm's own: `each` hears two channels as two speakers.")


def openai_shape(status: int, detail: ErrorDetail) -> Response:
    """An error as OpenAI writes it."""
    body = OpenAIErrorBody(error=_error(status, detail))
    return Response(body.model_dump_json(), elsewhere(status), media_type="application/json")


def _error(status: int, detail: ErrorDetail) -> OpenAIError:
    codes = {Unauthorized.code: "invalid_api_key"}
    return OpenAIError(
        message=detail.message,
        type="server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error",
        param=detail.details.get("param"),
        code=detail.details.get("code", codes.get(detail.code, detail.code)),
    )


_TYPES = ("application/json", "text/plain", "application/x-subrip", "text/vtt", MEDIA_TYPE_EVENTS)
_CALL: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        **documented_as(OpenAIErrorBody, NotFound, *one_call.MAY_FAIL),
        200: {"description": "The transcript in the format asked for.", "content": {each: {} for each in _TYPES}},
    },
    "openapi_extra": form_with_file("file", AudioRequest.model_json_schema()["properties"]),
}
router = APIRouter(tags=["openai"], dependencies=[Security(bearer)], responses=documented_as(OpenAIErrorBody))


@router.post("/audio/transcriptions", **_CALL)
async def create_transcription(request: Request, caller: AnyCaller, farm: Farm) -> Response:
    """Transcribe a recording and wait for it, as OpenAI does. The same upload again joins the one at work."""
    return await _transcribed(request, caller, farm, "transcribe")


@router.post("/audio/translations", **_CALL)
async def create_translation(request: Request, caller: AnyCaller, farm: Farm) -> Response:
    """Write down in English what is said in a recording, and wait for it."""
    return await _transcribed(request, caller, farm, "translate")


@router.get("/models")
async def list_models(caller: AnyCaller, farm: Farm) -> ModelList:
    """OpenAI's names, and what the workers offer."""
    return ModelList(data=tuple(await farm.store.read(_models)))


@router.get(
    "/models/{model:path}",
    responses=documented_as(OpenAIErrorBody, NotFound),
    openapi_extra={"parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]},
)
async def get_model(request: Request, caller: AnyCaller, farm: Farm) -> Model:
    """One of them."""
    model = str(request.path_params["model"])
    found = next((each for each in await farm.store.read(_models) if each.id == model), None)
    if found is None:
        raise _no_model(model)
    return found


def _models(tx: Transaction) -> list[Model]:
    """OpenAI's and all that the workers name, or can fetch by name; another engine's as `ENGINE:MODEL`."""
    found = dict.fromkeys(OPENAI_MODELS, "openai")
    for offer in _offers(worker for worker in list_workers(tx) if worker.state == "live"):
        by_name = REPOSITORIES if offer.engine == DEFAULT_ENGINE and offer.models is None else ()
        for model in (*(offer.models or ()), *offer.loaded, *by_name):
            found.setdefault(model if offer.engine == DEFAULT_ENGINE else f"{offer.engine}:{model}", offer.engine)
    return [Model(id=name, owned_by=owner) for name, owner in found.items()]


def _offers(workers: Iterable[WorkerRow]) -> list[EngineOffer]:
    return [EngineOffer.model_validate(offer) for worker in workers for offer in worker.engines]


def _is_known(tx: Transaction, asked: str) -> bool:
    """Whether a model can be asked for. Workers that are gone count: a farm may have none until there is work.

    Which models another engine than Whisper's has, its workers alone know.
    """
    engine, model = engine_and_model(asked)
    if engine == DEFAULT_ENGINE and (model in REPOSITORIES or "/" in model):
        return True
    others = (offer for offer in _offers(list_workers(tx, 0)) if offer.engine == engine)
    return any(model in (*(offer.models or ()), *offer.loaded) or engine != DEFAULT_ENGINE for offer in others)


def _no_model(name: str) -> NotFound:
    message = f"The model {name[:100]!r} does not exist here; GET /v1/models lists those that do."
    return NotFound(message, param="model", code="model_not_found")


async def _transcribed(request: Request, caller: AnyCaller, farm: Coordinator, task: Task) -> Response:
    form = await read_form(request, farm.blobs, FileWanted("file", farm.settings.max_upload_bytes))
    async with farm.blobs.tentative(form.file.key):
        asked = form.read(AudioRequest)
        format = written_as(asked)
        speakers = asked.response_format == "diarized_json" or asked.model == DIARIZING_MODEL
        options = one_call.options_for(
            await _recogniser(farm, asked.model),
            task=task,
            language=asked.language if task == "transcribe" else None,
            initial_prompt=asked.prompt,
            hotwords=", ".join(sorted(asked.keywords))[:MOST_HINT] or None,
            channel=asked.channel,
            diarize=speakers and asked.channel != "each",
            # Zero means, as at OpenAI: begin there, and go up where the text is poor.
            temperature=(asked.temperature,) if asked.temperature else FALLBACK_TEMPERATURES,
        )
    transcription_id = await one_call.submit_file(farm, caller, form.file, options)
    if asked.stream:
        headers = {one_call.ID_HEADER: transcription_id, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_events(farm, transcription_id, asked), media_type=MEDIA_TYPE_EVENTS, headers=headers)
    return await one_call.transcript_of(farm, transcription_id, format, request)


async def _recogniser(farm: Coordinator, asked: str) -> tuple[str, str]:
    if asked in OPENAI_MODELS:
        return engine_and_model(farm.settings.default_model)
    if not await farm.store.read(lambda tx: _is_known(tx, asked)):
        raise _no_model(asked)
    return engine_and_model(asked)


async def _events(farm: Coordinator, transcription_id: str, wish: Wish) -> AsyncIterator[str | bytes]:
    """The text as it is heard, then all of it; or what went wrong."""
    try:
        async with aclosing(one_call.heard(farm, transcription_id)) as texts:
            async for text in texts:
                delta = json.dumps({"type": "transcript.text.delta", "delta": text})
                yield f"data: {delta}\n\n" if text else ": still here\n\n"
        row = await farm.store.read(lambda tx: find(tx, transcription_id))
        if wish.response_format == "diarized_json":
            document = json.loads(await farm.renderer.file(row, written_as(wish)))
            for segment in document["segments"]:
                yield f"data: {json.dumps(segment)}\n\n"
        content = await farm.renderer.file(row, done_event(wish))
    except Exception as error:  # the status has been sent; only the stream itself can tell
        told = error if isinstance(error, FarmError) else Internal()
        body = OpenAIErrorBody(error=_error(told.status, ErrorDetail(code=told.code, message=told.message)))
        yield f"data: {body.model_dump_json()}\n\n"
        if told is not error:
            raise
        return
    yield b"data: " + content + b"\n\n"
    yield "data: [DONE]\n\n"
