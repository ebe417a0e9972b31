"""A recording comes in."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, insert, select

from whisper_farm.leases.ids import CHUNK_PROFILE, RANDOM, Mint, chunk_job_id, profile_id
from whisper_farm.protocol.events import TranscriptionSubmitted
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.tables import farm, jobs, literally, profiles, transcriptions
from whisper_farm.store.transcriptions import find_by_key
from whisper_farm.transcript.options import RecognitionOptions


@dataclass(frozen=True, slots=True)
class NewTranscription:
    """What is to be transcribed, and how. `source` is `blob:KEY` or `file:PATH`."""

    owner: str
    name: str
    source: str
    source_size: int
    options: RecognitionOptions
    source_sha256: str | None = None
    chunk_seconds: float = 30
    priority: int = 0
    key: str | None = None


def submit(tx: Transaction, new: NewTranscription, mint: Mint = RANDOM) -> str:
    """Accept a recording with the job that cuts it; returns its id, or that of the one with the same owner and key."""
    if new.key is not None and (before := find_by_key(tx, new.owner, new.key)):
        return before.id
    profile = profile_id(new.options)
    turn = _turn(tx, profile, new.options)
    made = mint.transcription_id()
    tx.change(_RECORDING, _recording(tx, new) | {"id": made, "profile_id": profile})
    tx.change(
        _CHUNK_JOB, {"id": chunk_job_id(made), "recording": made, "first": new.priority, "at": turn, "now": tx.now}
    )
    emit(tx, TranscriptionSubmitted(name=new.name), made, new.owner)
    return made


def _recording(tx: Transaction, new: NewTranscription) -> dict[str, object]:
    pins = {"language": new.options.language, "revision": new.options.revision}
    options = new.options.model_dump(mode="json")
    return {name: getattr(new, name) for name in _SAME} | pins | {"created_at": tx.now, "options": options}


def _turn(tx: Transaction, profile: str, options: RecognitionOptions) -> int:
    """The farm's present turn; what is there from the first recording on, and from the first of its kind, is made."""
    there = tx.first(_THERE, {"profile": profile})
    if there.turn is None:
        tx.change(insert(farm), {"id": 1, "turn": 0})
        tx.change(insert(profiles), {"id": CHUNK_PROFILE, "kind": "chunk"})
    if not there.known:
        row = {"id": profile, "kind": "transcribe", "engine": options.engine, "model": options.model}
        shared = options.model_dump(mode="json", exclude={"language", "revision"})
        tx.change(insert(profiles), row | {"options": shared})
    return there.turn or 0


_THERE = Prepared(
    select(
        select(farm.c.turn).scalar_subquery().label("turn"),
        select(profiles.c.id).where(profiles.c.id == bindparam("profile")).exists().label("known"),
    )
)
_SAME = ("owner", "name", "key", "priority", "source", "source_size", "source_sha256", "chunk_seconds")
_GIVEN = ("id", "profile_id", "language", "revision", "created_at", "options", *_SAME)
_RECORDING = Prepared(
    insert(transcriptions).values({name: bindparam(name) for name in _GIVEN} | {"state": literally("queued")})
)
_CHUNK_JOB = Prepared(
    insert(jobs).values(
        id=bindparam("id"), transcription_id=bindparam("recording"), kind="chunk", position=0, state="queued",
        profile_id=CHUNK_PROFILE, needs=CHUNK_PROFILE, priority=bindparam("first"), turn=bindparam("at"),
        created_at=bindparam("now"),
    )
)  # fmt: skip
