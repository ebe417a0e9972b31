"""The OpenAPI document, and what routes share in it: parameters, and bodies that are files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Query
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from whisper_farm import __version__
from whisper_farm.transcript.cues import CueLayout

DESCRIPTION = """Submit recordings, follow them, take their transcripts; and the API of the workers.

Every answer that is not a success is `{"error": {"code", "message", "details"}}`."""

ID = r"^[A-Za-z0-9._-]{1,64}$"
CURSOR = r"^[^\x00-\x1f]{0,1000}:[A-Za-z0-9._-]{1,64}$"
MAX_EVENT_ID = (1 << 53) - 1
"""Beyond this JavaScript's numbers are no longer exact."""

TranscriptionId = Annotated[str, Path(pattern=ID, description="As the submission answered it.")]
IdInPath = Annotated[str, Path(pattern=ID)]
ClaimTokenInPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{16,64}$", description="Of a live attempt.")]
PositionInPath = Annotated[int, Path(ge=0, le=1_000_000)]
PageSize = Annotated[int, Query(ge=1, le=1000, description="At most this many in one answer.")]


class CuesAsked(BaseModel):
    """Whisper's options of subtitles, in a query or a form."""

    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    highlight_words: bool = False

    @property
    def layout(self) -> CueLayout:
        """What is asked for; raises `InvalidRequest` for what cannot be."""
        return CueLayout(self.max_line_width, self.max_line_count, self.max_words_per_line, self.highlight_words)


def binary(media_type: str) -> dict[str, Any]:
    """The description of bytes."""
    return {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}


def files(media_types: Iterable[str]) -> dict[str, Any]:
    """The content of an answer that is a file of one of these types."""
    return {each.partition(";")[0]: {"schema": {"type": "string"}} for each in media_types}


def form_with_file(part: str, fields: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The description of a form with a file, and with such fields beside it."""
    file = {"type": "string", "format": "binary", "description": "The recording: any format that FFmpeg reads."}
    schema = {"type": "object", "required": [part], "properties": {part: file, **fields}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def ranges(media_type: str) -> dict[int | str, dict[str, Any]]:
    """The description of a file that answers `Range`."""
    return {
        200: {"description": "All of it.", **binary(media_type)},
        206: {"description": "The range asked for.", **binary(media_type)},
        416: {"description": "`invalid_request`: nothing of the file lies in the range."},
    }


def openapi_document(sub_applications: Mapping[str, FastAPI]) -> dict[str, Any]:
    """One document for several sub-applications; the keys are the addresses at which they are mounted."""
    whole = APIRouter()
    for prefix, app in sub_applications.items():
        whole.include_router(app.router, prefix=prefix)
    return get_openapi(title="Whisper Farm", version=__version__, description=DESCRIPTION, routes=whole.routes)
