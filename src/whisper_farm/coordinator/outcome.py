"""What a recording came to, for the assembler and for whoever asks: gaps and makers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select

from whisper_farm.protocol.client import Gap
from whisper_farm.store.database import Transaction
from whisper_farm.store.prepared import Prepared
from whisper_farm.store.rows import among
from whisper_farm.store.tables import attempts, jobs, literally, workers
from whisper_farm.store.transcriptions import TranscriptionRow, find
from whisper_farm.transcript.transcript import Maker, damage_in_words

CUT_OFF_SECONDS = 2.0
CUT_OFF_SHARE = 0.01
"""A file that decodes to less than it declares, by more than both of these, was cut off."""
DAMAGE_SECONDS = 1.0
"""Damage that lasts longer is a gap: words may be lost in it. Shorter damage is only counted."""

_FAILED = Prepared(
    select(
        jobs.c.transcription_id, jobs.c.kind, jobs.c.position, jobs.c.start_seconds, jobs.c.end_seconds,
        jobs.c.error_code, jobs.c.error_message,
    )
    .where(jobs.c.state == literally("failed"), among(jobs.c.transcription_id, "recordings"))
    .order_by(jobs.c.kind.desc(), jobs.c.position)
)  # fmt: skip


def gaps_of(tx: Transaction, transcription_id: str) -> tuple[Gap, ...]:
    """The stretches of the recording that will have no result as things stand, and why."""
    return gaps_of_all(tx, [find(tx, transcription_id)])[transcription_id]


def gaps_of_all(tx: Transaction, recordings: Sequence[TranscriptionRow]) -> dict[str, tuple[Gap, ...]]:
    """The gaps of each of these recordings."""
    failed: dict[str, list[Any]] = {row.id: [] for row in recordings}
    for row in tx.rows(_FAILED, {"recordings": list(failed)}) if failed else ():
        failed[row.transcription_id].append(row)
    return {recording.id: _gaps(recording, failed[recording.id]) for recording in recordings}


def _gaps(recording: TranscriptionRow, failed: Iterable[Any]) -> tuple[Gap, ...]:
    gaps = [*_given_up(recording, failed), *_missing_in_file(recording)]
    return tuple(sorted(gaps, key=lambda gap: gap.start_seconds))


def _given_up(recording: TranscriptionRow, failed: Iterable[Any]) -> Iterable[Gap]:
    """Chunks set aside, and what was never cut."""
    for job in failed:
        if job.kind == "transcribe":
            yield Gap(
                start_seconds=job.start_seconds,
                end_seconds=job.end_seconds,
                reason=f"{job.error_code}: {job.error_message}",
                position=job.position,
            )
        else:
            end = max(recording.cut_seconds, recording.declared_seconds or 0.0)
            reason = f"not cut: {job.error_code}: {job.error_message}"
            yield Gap(start_seconds=recording.cut_seconds, end_seconds=end, reason=reason)


def _missing_in_file(recording: TranscriptionRow) -> Iterable[Gap]:
    """What is damaged in the file, and what it promised but does not hold: no retry brings it back."""
    for start, end in recording.damaged or ():
        if end - start > DAMAGE_SECONDS:
            yield Gap(start_seconds=start, end_seconds=end, reason=damage_in_words(recording.damaged_packets))
    decoded, declared = recording.duration_seconds, recording.declared_seconds
    if decoded is None or declared is None:
        return
    if declared - decoded > max(CUT_OFF_SECONDS, CUT_OFF_SHARE * declared):
        reason = f"the file declares {declared:.1f} s but holds {decoded:.1f} s"
        yield Gap(start_seconds=decoded, end_seconds=declared, reason=reason)


def maker_of(tx: Transaction, transcription_id: str) -> Maker:
    """What recognised the recording: distinct versions, devices and workers of the results that count."""
    query = (
        select(attempts.c.facts, workers.c.name, attempts.c.worker_id)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .outerjoin(workers, workers.c.id == attempts.c.worker_id)
        .where(
            jobs.c.transcription_id == transcription_id,
            jobs.c.kind == "transcribe",
            jobs.c.state == "done",
            attempts.c.state == "done",
            attempts.c.digest == jobs.c.result_digest,
        )
    )
    rows = tx.connection.execute(query).all()
    recording = find(tx, transcription_id)
    return Maker(
        engine=str(recording.options["engine"]),
        version=", ".join(_distinct(row.facts["engine_version"] for row in rows)),
        model=str(recording.options["model"]),
        revision=recording.revision or "",
        devices=_distinct(row.facts["device"] for row in rows),
        workers=_distinct(row.name or row.worker_id for row in rows),
    )


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))
