"""A second worker's word: a result that is doubted counts only when another worker has done the job, too.

Three sorts are doubted: what is hard to believe, and a share of the chunks that is asked for. The third is the first
result of a recording, if the farm's workers are known to have another revision of the model. Of the chunks that a
cutter calls silence the same share is heard by another worker; what that one hears counts.

What the first one said is kept with its attempt, which ends as superseded. The job is left to others, as after a
failure, and what the second one says counts. Where nobody else is there, the first one is believed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from whisper_farm.leases.attempts import Held
from whisper_farm.leases.workers import LiveWorkers
from whisper_farm.protocol.jobs import ChunkResult, Result, TranscribeResult
from whisper_farm.settings import Policy
from whisper_farm.store.database import Transaction
from whisper_farm.store.search import fold
from whisper_farm.store.statements import Change, Json, Query

MOST_WORDS = 300
"""Words of a result that are compared; in half a minute nobody says as many."""
ALIKE = 2 / 3
"""Two results are alike if so many of their words are the same."""
HEARD = Query[tuple[str, dict[str, Any]]]("""
    SELECT worker_id, facts FROM attempts
     WHERE job_id = :job AND state = 'superseded' AND facts IS NOT NULL ORDER BY number DESC LIMIT 1
""")
KEEP = Change("UPDATE attempts SET facts = :facts WHERE token = :token")
LEAVE = Change("UPDATE jobs SET available_at = :now, left_by = :worker WHERE id = :job")
COMPARED = Change("UPDATE workers SET compared = compared + 1, differed = differed + :differed WHERE id = :me")


CUTTER = Change("""
    UPDATE workers SET compared = compared + 1, differed = differed + :differed
     WHERE id = (SELECT max(worker_id) FROM attempts WHERE job_id = :job HAVING count(*) = 1)
""")
"""Whoever cut the recording, if nobody else had a part in that."""


def is_doubtful(result: Result, speech_seconds: float, policy: Policy) -> bool:
    """Whether it is hard to believe: a recording without any sound, or no word where the cutter has found speech."""
    if isinstance(result, ChunkResult):
        return result.chunks == 0
    if not isinstance(result, TranscribeResult) or speech_seconds < max(policy.language_speech_seconds, 1):
        return False
    return not result.unheard and not any(segment.text.strip() for segment in result.segments)


def words_of(result: Result) -> tuple[str, ...]:
    """The words of a result, as they are compared."""
    if not isinstance(result, TranscribeResult):
        return ()
    return tuple(fold(" ".join(segment.text for segment in result.segments)).split()[:MOST_WORDS])


def needs_another(tx: Transaction, held: Held, policy: Policy) -> bool:
    """Whether somebody else can do it, and nobody has been asked before."""
    asked_before = held.number > 1 and tx.first(HEARD, {"job": held.job_id}) is not None
    return not asked_before and LiveWorkers(tx, policy).serves(held.needs, but={held.worker_id})


def leave_to_another(tx: Transaction, held: Held, words: Sequence[str], revision: str | None) -> None:
    """Keep what was said, and leave the job, which is queued again, to others for a while."""
    tx.change(KEEP, {"token": held.token, "facts": Json({"words": list(words), "revision": revision})})
    tx.change(LEAVE, {"job": held.job_id, "worker": held.worker_id})


def compare(tx: Transaction, held: Held, words: Sequence[str], revision: str | None) -> bool:
    """Hold a result against the first one, if another worker gave that, and note for both whether they differ.

    Returns whether both had the same revision of the model.
    """
    first = tx.first(HEARD, {"job": held.job_id}) if held.number > 1 else None
    if first is None or first[0] == held.worker_id:
        return False
    agreed = bool(first[1]["revision"] == revision)
    same = agreed and alike(first[1]["words"], words)
    told = [{"me": worker, "differed": int(not same)} for worker in (first[0], held.worker_id)]
    tx.before_commit(lambda: tx.change(COMPARED, told))
    return agreed


def note_cutter(tx: Transaction, cut_job_id: str, differs: bool) -> None:
    """Note whether somebody has heard words in what the cutter called silence."""
    tx.before_commit(lambda: tx.change(CUTTER, {"job": cut_job_id, "differed": int(differs)}))


def alike(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether most words of two results are the same, in whatever order."""
    same = (Counter(one) & Counter(other)).total()
    return 2 * same >= ALIKE * (len(one) + len(other))
