"""One language a recording: the first chunk with enough speech decides, and whoever heard another is asked again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, bindparam, select, update

from whisper_farm.protocol.events import JobRedo, LanguageDecided
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.events import emit
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.tables import jobs, transcriptions

_MINE = (jobs.c.transcription_id == bindparam("recording"), jobs.c.kind == "transcribe")


def _spoken() -> Select[tuple[int, str, str | None]]:
    return select(jobs.c.position, jobs.c.state, jobs.c.language).where(*_MINE, jobs.c.speech_seconds > 0)


_DECIDING = Prepared(
    _spoken()
    .where(jobs.c.speech_seconds >= bindparam("enough"), jobs.c.state != "failed")
    .order_by(jobs.c.position)
    .limit(1)
)
_MOST_SPEECH = Prepared(
    _spoken().where(jobs.c.state == "done").order_by(jobs.c.speech_seconds.desc(), jobs.c.position).limit(1)
)
_REDO = Prepared(
    update(jobs)
    .where(*_MINE, jobs.c.state == "done", jobs.c.language != bindparam("decided"))
    .values(
        state="queued", ended_at=None, result_key=None, result_size=None, result_digest=None, language=None,
        available_at=0,
    )
    .returning(jobs.c.position, jobs.c.start_seconds, jobs.c.end_seconds)
)  # fmt: skip


def deciding_position(tx: Transaction, transcription_id: str, policy: Policy) -> int | None:
    """The position of the chunk whose language the recording will have; None while no chunk has enough speech."""
    row = _deciding(tx, transcription_id, policy)
    return None if row is None else row.position


def decide(tx: Transaction, transcription_id: str, owner: str, all_ended: bool, policy: Policy) -> bool:
    """Decide if the deciding chunk is done, or, when there is none and all has ended, by the chunk with most speech."""
    row = _deciding(tx, transcription_id, policy)
    if row is None and all_ended:
        row = tx.first(_MOST_SPEECH, {"recording": transcription_id})
    if row is None or row.state != "done":
        return False
    announce(tx, transcription_id, owner, row.language)
    redo_others(tx, transcription_id, owner, row.language)
    return True


def announce(tx: Transaction, transcription_id: str, owner: str, language: str) -> None:
    """The recording is in this language from now on."""
    tx.change(update(transcriptions).where(transcriptions.c.id == transcription_id).values(language=language))
    emit(tx, LanguageDecided(language=language), transcription_id, owner)


def redo_others(tx: Transaction, transcription_id: str, owner: str, language: str) -> None:
    """Queue again the chunks that were recognised in another language, without their results."""
    rows = tx.rows(_REDO, {"recording": transcription_id, "decided": language})
    if not rows:
        return
    _uncount(tx, transcription_id, rows)
    for position in sorted(row.position for row in rows):
        emit(tx, JobRedo(position=position), transcription_id, owner)


def _uncount(tx: Transaction, transcription_id: str, rows: Sequence[Any]) -> None:
    seconds = sum(row.end_seconds - row.start_seconds for row in sorted(rows, key=lambda row: row.position))
    mine = transcriptions.c.id == transcription_id
    tx.change(
        update(transcriptions)
        .where(mine)
        .values(
            chunks_done=transcriptions.c.chunks_done - len(rows),
            done_seconds=transcriptions.c.done_seconds - seconds,
        )
    )


def _deciding(tx: Transaction, transcription_id: str, policy: Policy) -> Any:
    enough = {"recording": transcription_id, "enough": policy.language_speech_seconds}
    return tx.first(_DECIDING, enough)
