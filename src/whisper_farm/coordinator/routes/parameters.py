"""Path and query parameters that several routes share, with their bounds."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

ID = r"^[A-Za-z0-9._-]{1,64}$"
CURSOR = r"^[0-9.e+-]{1,40}:[A-Za-z0-9._-]{1,64}$"
MAX_EVENT_ID = (1 << 53) - 1
"""Beyond this JavaScript's numbers are no longer exact."""

TranscriptionId = Annotated[str, Path(pattern=ID, description="As the submission answered it.")]
UploadId = Annotated[str, Path(pattern=ID)]
WorkerId = Annotated[str, Path(pattern=ID)]
TokenId = Annotated[str, Path(pattern=ID)]
ClaimTokenInPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{16,64}$", description="Of a live attempt.")]
PositionInPath = Annotated[int, Path(ge=0, le=1_000_000)]
PageSize = Annotated[int, Query(ge=1, le=1000, description="At most this many in one answer.")]
