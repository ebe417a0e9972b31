"""What is true of the queue after every step, whoever asked for what; from the rows of a database alone."""

from __future__ import annotations

from math import inf
from typing import Any

Snapshot = dict[str, Any]
Row = dict[str, Any]
FINISHED = ("done", "incomplete", "failed", "cancelled")
ENDED = ("done", "failed", "cancelled")


def check_step(step: str, before: Snapshot, after: Snapshot, max_attempts: int) -> None:
    """Check the rows after a step, and what the step did to those before it."""
    tries: dict[str, list[Row]] = {job_id: [] for job_id in after["jobs"]}
    for attempt in after["attempts"].values():
        tries[attempt["job_id"]].append(attempt)
    for job_id, job in after["jobs"].items():
        _held_once(job, tries[job_id])
        _one_result(job, tries[job_id])
        check_charges(job, tries[job_id], max_attempts)
    for recording_id, recording in after["transcriptions"].items():
        _accounted_for(recording, [job for job in after["jobs"].values() if job["transcription_id"] == recording_id])
    _time_goes_forward(before, after)
    _the_end_is_the_end(step, before, after)
    _told_for_good(before, after)


def _held_once(job: Row, tries: list[Row]) -> None:
    live = [one for one in tries if one["state"] == "live"]
    assert len([one for one in live if not one["hedge"]]) <= 1, f"two hold {job['id']}"
    assert len([one for one in live if one["hedge"]]) <= 1, f"two hedge {job['id']}"
    assert len({one["worker_id"] for one in live}) == len(live), f"one worker holds {job['id']} twice"
    assert (job["state"] == "running") == bool(live), f"{job['id']} is {job['state']} with {len(live)} live attempts"
    assert sorted(one["number"] for one in tries) == list(range(1, job["attempts"] + 1))


def _one_result(job: Row, tries: list[Row]) -> None:
    taken = [one for one in tries if one["state"] == "done" and one["digest"] == job["result_digest"]]
    silent = job["kind"] == "transcribe" and job["speech_seconds"] == 0
    assert (job["state"] == "done") == (job["result_digest"] is not None or silent), f"{job['id']} has no result"
    assert bool(taken) == bool(job["result_digest"]), f"nobody made the result of {job['id']}"


def check_charges(job: Row, tries: list[Row], max_attempts: int) -> None:
    """The budget is kept, but where one worker alone is to blame and others may still try, or a rival ran on.

    An attempt that is live when the charge of another spends the budget is let run on; if it is not charged in the
    end, the job is tried once more. So there is no charge too many that a hedge does not account for.
    """
    counted = sorted((one for one in tries if one["number"] > job["forgiven_attempts"]), key=lambda one: one["number"])
    assert job["charged_attempts"] == len([one for one in counted if one["charged"]])
    assert all(one["charged"] == (one["state"] == "lost") for one in tries if one["state"] != "failed")
    charged: list[Row] = []
    too_many = 0
    rounds = _rounds(counted)
    for number, together in enumerate(rounds, 1):
        for one in sorted(together, key=_end):
            too_many += one["charged"] and _spent(charged, max_attempts)
            charged += [one] if one["charged"] else []
        if _spent(charged, max_attempts) and not _ran_on(together):
            assert number == len(rounds), f"{job['id']} was tried too often"
            assert job["state"] in ENDED, f"{job['id']} should be set aside"
    assert too_many <= len([one for one in counted if one["hedge"]]), f"{job['id']} was charged too often"


def _rounds(counted: list[Row]) -> list[list[Row]]:
    """Attempts that may have run beside each other: a first try each, and the hedges of it."""
    rounds: list[list[Row]] = []
    for one in counted:
        if one["hedge"]:
            rounds[-1].append(one)
        else:
            rounds.append([one])
    return rounds


def _ran_on(together: list[Row]) -> bool:
    """Whether the last of these to end has not ended yet, or without a charge; at the same time, either may be last."""
    last_charge = max((_end(one)[0] for one in together if one["charged"]), default=0.0)
    return any(not one["charged"] and _end(one)[0] >= last_charge for one in together)


def _end(one: Row) -> tuple[float, int]:
    return (inf if one["ended_at"] is None else one["ended_at"], one["number"])


def _spent(charged: list[Row], max_attempts: int) -> bool:
    two = len({one["worker_id"] for one in charged}) >= 2
    return len(charged) >= max_attempts * (1 if two else 2)


def _accounted_for(recording: Row, jobs: list[Row]) -> None:
    name, chunks = recording["id"], [job for job in jobs if job["kind"] == "transcribe"]
    done = [job for job in chunks if job["state"] == "done"]
    failed = [job for job in chunks if job["state"] == "failed"]
    unfinished = [job for job in jobs if job["state"] in ("queued", "running") and job["kind"] != "peaks"]
    assert [job["kind"] for job in jobs].count("chunk") == 1, f"{name} has no job that cuts it"
    peaks = [job for job in jobs if job["kind"] == "peaks"]
    assert len(peaks) == (recording["peaks"] and recording["chunking_done"]), f"{name} has {len(peaks)} jobs of peaks"
    assert all((job["audio_key"] is not None) == (job["state"] == "done") for job in peaks), name
    assert [job["position"] for job in sorted(chunks, key=lambda job: job["position"])] == list(range(len(chunks)))
    assert (recording["chunks"], recording["chunks_done"]) == (len(chunks), len(done)), name
    assert recording["chunks_failed"] == len(failed), name
    assert abs(recording["done_seconds"] - sum(job["end_seconds"] - job["start_seconds"] for job in done)) < 1e-3
    assert recording["cut_seconds"] == max((job["end_seconds"] for job in chunks), default=0.0)
    assert bool(unfinished) == (recording["state"] in ("queued", "running")), (
        f"{name} waits for nothing, or ended early"
    )
    if recording["state"] in ("assembling", "done"):
        assert recording["language"] is not None or not any(job["result_digest"] for job in done), name
        assert {job["language"] for job in done if not job["language_sure"]} <= {None, recording["language"]}, name


def _time_goes_forward(before: Snapshot, after: Snapshot) -> None:
    assert (after["turn"] or 0) >= (before["turn"] or 0), "the farm's turn went back"
    for token, old in before["attempts"].items():
        new = after["attempts"].get(token)
        if new is not None and new != old:
            assert old["state"] == "live", f"the ended attempt {token} changed"


def _the_end_is_the_end(step: str, before: Snapshot, after: Snapshot) -> None:
    """Finished recordings change by retry alone, ended jobs by retry or by being done again, results never; but a job
    whose stored result is found to be lost has failed."""
    redone = {(e["transcription_id"], e["data"]["position"]) for e in after["events"] if e["kind"] == "job_redo"}
    for name, old in before["transcriptions"].items():
        if old["state"] in FINISHED and step not in ("retry", "delete"):
            assert _but(step, after["transcriptions"][name], "label") == _but(step, old, "label"), (
                f"{name} was {old['state']} and changed by {step}"
            )
    for name, old in before["jobs"].items():
        new = after["jobs"].get(name)
        if new is None or _but(step, new, "needs") == _but(step, old, "needs") or old["state"] not in ENDED:
            continue
        if step == "assembled" and (old["state"], new["state"], new["error_code"]) == (
            "done",
            "failed",
            "blob_missing",
        ):
            continue
        again = step == "retry" and old["state"] != "done"
        assert again or (old["transcription_id"], old["position"]) in redone, f"{name} was {old['state']} and changed"
        claimed = new["state"] == "running" and step == "claim"  # in the call that queued it again
        assert new["state"] == "queued" or claimed, f"{name} is {new['state']}"


def _but(step: str, row: Row, column: str) -> Row:
    """A row, but for what may change when a transcription is submitted again."""
    return row | {column: None} if step == "submit" else row


def _told_for_good(before: Snapshot, after: Snapshot) -> None:
    for name, old in before["workers"].items():
        assert not old["told"] or after["workers"][name]["state"] != "live", (
            f"{name} was told to leave and claims again"
        )
