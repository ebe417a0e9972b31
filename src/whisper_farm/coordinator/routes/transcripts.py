"""The finished transcript as a file, in every format people's tools read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Security
from starlette.responses import Response

from whisper_farm.coordinator.answers.errors import ALWAYS, documented
from whisper_farm.coordinator.answers.files import serve_blob
from whisper_farm.coordinator.coordinator import Farm
from whisper_farm.coordinator.layers.auth import User, bearer
from whisper_farm.coordinator.routes.parameters import TranscriptionId
from whisper_farm.coordinator.routes.transcriptions import own
from whisper_farm.coordinator.routes.transfers import ranges
from whisper_farm.errors import BlobMissing, InvalidTranscript, NotFound, WrongState
from whisper_farm.transcript.document import from_json
from whisper_farm.transcript.formats import render

Format = Literal["txt", "srt", "vtt", "tsv", "json"]
MEDIA_TYPES: dict[Format, str] = {
    "txt": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "tsv": "text/tab-separated-values; charset=utf-8",
    "json": "application/json",
}
router = APIRouter(
    prefix="/api/transcriptions",
    tags=["transcriptions"],
    dependencies=[Security(bearer)],
    responses=documented(*ALWAYS),
)


@router.get(
    "/{transcription_id}/transcript",
    response_class=Response,
    responses={
        **documented(*ALWAYS, NotFound, WrongState, BlobMissing, InvalidTranscript),
        **ranges(MEDIA_TYPES["json"]),
        200: {"description": "The file.", "content": {kind.partition(";")[0]: {} for kind in MEDIA_TYPES.values()}},
    },
)
async def get_transcript(
    transcription_id: TranscriptionId,
    request: Request,
    caller: User,
    farm: Farm,
    format: Annotated[Format, Query(description="Of the file.")] = "json",
) -> Response:
    """The transcript as a file. There is one as soon as the transcription is `done` or `incomplete`."""
    row = await farm.store.read(lambda tx: own(tx, caller, transcription_id))
    if row.transcript_key is None or row.state not in ("done", "incomplete"):
        raise WrongState(f"{row.name} is {row.state}; it has no transcript yet.")
    if format == "json":
        answer = await serve_blob(
            request, farm.blobs, row.transcript_key, row.transcript_size or 0, MEDIA_TYPES["json"]
        )
    else:
        async with farm.renders:
            text = await farm.store.run(_rendering(await farm.blobs.get(row.transcript_key), format))
        answer = Response(text.encode("utf-8", errors="replace"), media_type=MEDIA_TYPES[format])
    answer.headers["Content-Disposition"] = _attachment(row.name, format)
    return answer


def _rendering(document: bytes, format: Format) -> Callable[[], str]:
    return lambda: render(from_json(json.loads(document)), format)


def _attachment(name: str, format: Format) -> str:
    """The header that names the file, in ASCII for old programs and in UTF-8 (RFC 6266) for the others."""
    stem = os.path.splitext(name.replace("\\", "/").rsplit("/", 1)[-1])[0] or "transcript"  # noqa: PTH122 - as whisper
    file = f"{stem}.{format}"
    plain = "".join(
        letter if letter.isascii() and letter.isprintable() and letter not in '"\\' else "_" for letter in file
    )
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file, safe='')}"
