"""What clients see: rows become the messages of `protocol/client.py`. Changes nothing; one query for many rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

from whisper_farm.coordinator.transcripts import gaps_of
from whisper_farm.errors import InvalidRequest
from whisper_farm.leases.kinds import RECOGNITION
from whisper_farm.leases.workers import LiveWorkers, nobody_runs
from whisper_farm.protocol import client as protocol
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.fetches import FetchRow, fetches_of
from whisper_farm.store.jobs import attempts_at, chunk_jobs, jobs_of_whole
from whisper_farm.store.transcriptions import TranscriptionRow, Wanted, find, list_transcriptions, place

MOST_GAPS = 100
"""A recording with more of them shows its gaps only by itself, not in a list."""


def transcription_view(tx: Transaction, transcription_id: str, policy: Policy) -> protocol.TranscriptionView:
    """One transcription; raises `NotFound`."""
    return _views(tx, [find(tx, transcription_id)], policy)[0]


def transcription_list(
    tx: Transaction, policy: Policy, wanted: Wanted, after: str | None, limit: int
) -> protocol.TranscriptionList:
    """A page of transcriptions; `after` is the `next` of the page before, which had the same order."""
    before = None if after is None else _cursor(after, wanted.order)
    rows = list_transcriptions(tx, wanted, limit + 1, before)
    page = rows[:limit]
    following = f"{place(page[-1], wanted.order)}:{page[-1].id}" if len(rows) > limit else None
    return protocol.TranscriptionList(transcriptions=tuple(_views(tx, page, policy)), next=following)


def _cursor(after: str, order: protocol.ListOrder) -> tuple[str | float, str]:
    value, _, last_id = after.rpartition(":")
    if order == "name":
        return value, last_id
    with suppress(ValueError):
        if not math.isnan(number := float(value)):
            return number, last_id
    raise InvalidRequest("`after` must be the `next` of an earlier page.")


def _views(tx: Transaction, rows: Sequence[TranscriptionRow], policy: Policy) -> list[protocol.TranscriptionView]:
    gaps = gaps_of(
        tx, [one for one in rows if len(rows) == 1 or one.chunks_failed + len(one.damaged or ()) <= MOST_GAPS]
    )
    fleet = LiveWorkers(tx, policy)
    fetches = fetches_of(tx, [row.id for row in rows if row.link is not None])
    return [
        protocol.TranscriptionView.of(
            row,
            options=row.recognition,
            progress=_progress(row),
            fetch=_fetch(row, fetches.get(row.id)),
            error={"code": row.error_code, "message": row.error_message} if row.error_code else None,
            **_warning(row, fleet, fetches.get(row.id)),
            gaps=gaps.get(row.id, ()),
            remarks=row.remarks or (),
        )
        for row in rows
    ]


def _progress(row: TranscriptionRow) -> protocol.Progress:
    whole = row.duration_seconds if row.duration_seconds is not None else row.declared_seconds
    done = min(max(row.done_seconds, 0.0), row.cut_seconds)
    return protocol.Progress.of(row, duration_seconds=whole, done_seconds=done)


def _fetch(row: TranscriptionRow, fetch: FetchRow | None) -> protocol.FetchView | None:
    if row.link is None or fetch is None:
        return None
    waits = row.state == "fetching" and fetch.holder is None
    next_at, last_try_at = (fetch.next_at, fetch.last_try_at) if waits else (None, None)
    return protocol.FetchView.of(fetch, url=row.link, next_at=next_at, last_try_at=last_try_at)


def _warning(row: TranscriptionRow, fleet: LiveWorkers, fetch: FetchRow | None) -> dict[str, str]:
    """What keeps a recording from moving on, or from having speakers, as a code and said aloud; empty if nothing."""
    if row.state == "fetching":
        return _said("fetch_tried_again", f"{fetch.error} It is tried again.") if fetch and fetch.error else {}
    if row.state in protocol.FINISHED or row.state == "assembling":
        return _words_alone(row)
    mine = [offers for offers in fleet.offers if offers.label == row.label]
    if not mine:
        return _said("no_worker", "No worker is there; start one with `whisper-farm worker`.")
    if not row.chunking_done and not any(offers.cuts for offers in mine):
        return _said("nobody_cuts", "No live worker cuts recordings; start one that does.")
    engine, model = row.options["engine"], row.options["model"]
    if not fleet.serves(RECOGNITION.needs(row.label, row.options)):
        lacking = fleet.lacking(row.label, engine, model)
        return _said("nobody_has_model" if lacking else "nobody_runs", nobody_runs(engine, model, lacking))
    return _words_alone(row)


def _words_alone(row: TranscriptionRow) -> dict[str, str]:
    if row.without_speakers is None or not row.options.get("diarize"):
        return {}
    what = f"Speakers are not told apart: no worker had the speaker model ({row.without_speakers})."
    then = f"When one has it: Recognise again in the app, or `whisper-farm retry {row.id}`."
    return _said("without_speakers", f"{what} {then}")


def _said(code: str, warning: str) -> dict[str, str]:
    return {"warning_code": code, "warning": warning}


def job_list(tx: Transaction, transcription_id: str, after: int | None, limit: int) -> protocol.JobList:
    """A page of a transcription's jobs with all attempts: those about the whole recording, then the chunks in order."""
    find(tx, transcription_id)
    whole = jobs_of_whole(tx, transcription_id) if after is None else []
    rows = chunk_jobs(tx, transcription_id, -1 if after is None else after, limit + 1)
    page = [*whole, *rows[:limit]]
    evidence: dict[str, list[protocol.AttemptView]] = {row.id: [] for row in page}
    for attempt in attempts_at(tx, list(evidence)):
        evidence[attempt.job_id].append(protocol.AttemptView.of(attempt))
    views = tuple(protocol.JobView.of(row, attempts=evidence[row.id]) for row in page)
    return protocol.JobList(jobs=views, next=rows[limit - 1].position if len(rows) > limit else None)
