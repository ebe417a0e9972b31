"""What the commands for a running farm print: transcriptions, workers, attempts, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from whisper_farm.cli.files import Outputs
from whisper_farm.cli.following import Ended, Following, fetch_stage
from whisper_farm.cli.progress import Display
from whisper_farm.cli.session import gaps_in_words, short_damage, why_not
from whisper_farm.cli.words import columns, counted, shortened, speed, when
from whisper_farm.client.farm import FarmClient
from whisper_farm.protocol.administration import ServerView, WorkerView
from whisper_farm.protocol.client import AttemptView, JobView, TranscriptionView
from whisper_farm.showing import printable
from whisper_farm.times import clock
from whisper_farm.transcript.cues import CueLayout
from whisper_farm.transcript.formats import WHISPERS
from whisper_farm.transcript.saving import fitting_stems

JOBS_SHOWN = 20
WHY_WIDTH = 100


def how_far(view: TranscriptionView) -> str:
    """How much of a transcription is done."""
    total = view.progress.duration_seconds
    if view.state == "fetching" and view.fetch is not None:
        return f"{view.fetch.received_bytes >> 20} of {(view.fetch.total_bytes or 0) >> 20 or '?'} MB"
    if view.state == "done":
        return clock(total) if total is not None else "all"
    return f"{clock(view.progress.done_seconds)} of {clock(total) if total is not None else '?'}"


def as_row(view: TranscriptionView) -> tuple[str, str, str, str, str]:
    """A line of `list`."""
    why = f"  ({shortened(why_not(view), WHY_WIDTH)})" if view.state in ("incomplete", "failed") else ""
    return view.id, view.state, how_far(view), when(view.created_at), printable(view.name + why)


def describe_transcription(view: TranscriptionView, jobs: Iterable[JobView]) -> Iterator[str]:
    """Everything worth knowing of a transcription: with the attempts at what did not go well."""
    options = view.options
    language = view.language or "to be detected"
    yield f"{view.id}  {printable(view.name)}"
    far = how_far(view) if view.state == "done" else f"{how_far(view)} done"
    yield f"state      {view.state}, {far}, {view.progress.chunks_done} of {view.progress.chunks} chunks"
    yield f"engine     {options.engine}, model {options.model}, language {language}, {options.task}"
    yield f"submitted  {when(view.created_at)} by {view.owner}" + (
        f", ended {when(view.finished_at)}" if view.finished_at is not None else ""
    )
    if view.cost is not None:
        heard = view.progress.done_seconds / 3600
        yield f"cost       {view.cost:.3f}" + (f", {view.cost / heard:.3f} an hour of audio" if heard else "")
    if view.warning:
        yield f"warning    {printable(view.warning)}"
    if view.fetch and view.fetch.next_at:
        yield f"link       {fetch_stage(view.fetch)}"
    if view.error:
        yield f"error      {printable(str(view.error.get('message')))} ({view.error.get('code')})"
    if view.gaps and not view.error:
        yield f"missing    {printable(gaps_in_words(view.gaps))}"
    for remark in view.remarks:
        yield f"read       {printable(remark)}"
    if line := short_damage(view):
        yield f"damage     {line}"
    yield from _troubles(jobs)


def _troubles(jobs: Iterable[JobView]) -> Iterator[str]:
    """The jobs that were not done at the first try, with the evidence of every attempt."""
    shown = 0
    for job in jobs:
        failures = [attempt for attempt in job.attempts if attempt.error_code]
        if job.state != "failed" and not failures:
            continue
        shown += 1
        if shown > JOBS_SHOWN:
            yield "… and more"
            return
        stretch = f"{clock(job.start_seconds)}–{clock(job.end_seconds)}"
        what = {"chunk": "cutting", "peaks": "listening copy", "transcribe": stretch}.get(job.kind, job.kind)
        yield f"{job.id}  {what}  {job.state}"
        for why, alike in groupby(failures, key=_why):
            first, *others = [attempt.number for attempt in alike]
            yield f"  attempts {first} to {others[-1]} {why}" if others else f"  attempt {first} {why}"


def _why(attempt: AttemptView) -> str:
    """Where an attempt failed, and why; tries that failed alike are told in one line."""
    reason = printable((attempt.error_message or "").partition("\n")[0])
    return f"on {printable(attempt.worker_name or attempt.worker_id)}: {attempt.error_code}: {reason}"


def describe_farm(here: ServerView, workers: Sequence[WorkerView]) -> Iterator[str]:
    """The server and who works for it."""
    yield f"server   whisper-farm {here.version}; you are {here.owner} ({here.scope})"
    yield f"storage  {here.database}, {here.blobs}"
    yield f"queue    {counted(here.jobs_queued, 'job')} waiting, {counted(here.workers_live, 'worker')} live"
    if workers:
        yield columns([("WORKER", "STATE", "SLOTS", "JOBS", "SPEED", "DIFFER", "ENGINES"), *map(_worker_row, workers)])


def _worker_row(worker: WorkerView) -> tuple[str, ...]:
    engines = ", ".join(f"{offer.get('engine')} on {offer.get('device')}" for offer in worker.engines)
    pace = speed(worker.speed) if worker.speed else "–"
    differ = f"{worker.differed} of {worker.compared}" if worker.compared else "–"
    return printable(worker.name), worker.state, str(worker.slots), str(worker.jobs), pace, differ, printable(engines)


def follow_to_the_end(farm: FarmClient, display: Display, ids: Sequence[str]) -> int:
    """Follow transcriptions; the exit code says whether all were done."""
    views = [farm.get(one) for one in dict.fromkeys(ids)]
    failed = 0
    with Following(farm, display, headings=len(views) > 1) as following:
        for view in views:
            following.watch(view.name if len(views) == 1 else f"{view.id} {view.name}", view)
        while following.active:
            for one in following.step():
                display.end(one.name)
                damage, done = short_damage(one.view), one.view.state == "done"
                notes = [
                    f"{one.name}: {one.view.state}, {how_far(one.view)}",
                    *([f"{one.name}: {damage}"] if damage else []),
                ]
                error = None if done else f"{one.name}: {why_not(one.view)}"
                one.end = Ended(done or one.view.state == "incomplete", notes, error)
                failed += not done
            following.end_turns()
    return 1 if failed else 0


def write_transcripts(
    farm: FarmClient, ids: Sequence[str], folder: str, formats: Sequence[str], layout: CueLayout
) -> Iterator[str]:
    """Write transcripts as files; yields what was written."""
    outputs = Outputs.into(folder, formats or WHISPERS, layout)
    views = [farm.get(one) for one in dict.fromkeys(ids)]
    names = [Path(view.name.replace("\\", "/")) for view in views]
    for view, stem in zip(views, fitting_stems(names, outputs.folder), strict=True):
        outputs.write(farm.transcript(view.id), stem)
        yield f"{view.id}  {outputs.named(stem)}"
