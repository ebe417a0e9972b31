"""What a recording came to, for the assembler and for whoever asks: gaps and makers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from whisper_farm.protocol.client import Gap
from whisper_farm.store.database import Transaction
from whisper_farm.store.jobs import FailedJob, failed_jobs, makers_of
from whisper_farm.store.transcriptions import TranscriptionRow, find
from whisper_farm.transcript.transcript import Maker, damage_in_words

CUT_OFF_SECONDS = 2.0
CUT_OFF_SHARE = 0.01
"""A file that decodes to less than it declares, by more than both of these, was cut off."""
DAMAGE_SECONDS = 1.0
"""Damage that lasts longer is a gap: words may be lost in it. Shorter damage is only counted."""


def gaps_of(tx: Transaction, transcription_id: str) -> tuple[Gap, ...]:
    """The stretches of the recording that will have no result as things stand, and why."""
    return gaps_of_all(tx, [find(tx, transcription_id)])[transcription_id]


def gaps_of_all(tx: Transaction, recordings: Sequence[TranscriptionRow]) -> dict[str, tuple[Gap, ...]]:
    """The gaps of each of these recordings."""
    failed: dict[str, list[FailedJob]] = {row.id: [] for row in recordings}
    for row in failed_jobs(tx, list(failed)):
        failed[row.transcription_id].append(row)
    return {recording.id: _gaps(recording, failed[recording.id]) for recording in recordings}


def _gaps(recording: TranscriptionRow, failed: Iterable[FailedJob]) -> tuple[Gap, ...]:
    gaps = [*_given_up(recording, failed), *_missing_in_file(recording)]
    return tuple(sorted(gaps, key=lambda gap: gap.start_seconds))


def _given_up(recording: TranscriptionRow, failed: Iterable[FailedJob]) -> Iterable[Gap]:
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
    rows = makers_of(tx, transcription_id)
    recording = find(tx, transcription_id)
    return Maker(
        engine=str(recording.options["engine"]),
        version=", ".join(_distinct(row.facts["engine_version"] for row in rows)),
        model=str(recording.options["model"]),
        revision=recording.revision or "",
        devices=_distinct(row.facts["device"] for row in rows),
        workers=_distinct(row.worker_name or row.worker_id for row in rows),
    )


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))
