"""Handing in: results and failures, in groups, until the server has taken or refused each.

Promises: there is one call at a time, so that what arrives meanwhile goes with the next. After a lost answer the same
is sent again. Leases that may have run out are asked about first. A result that the server cannot read is reported as a
failure of its job instead of being sent for ever. Whatever ended a job can be reported, and spoils no other report.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

from whisper_farm import errors
from whisper_farm.protocol import worker
from whisper_farm.protocol.jobs import Result, TranscribeResult, TranscribeTask
from whisper_farm.protocol.wire import MAX_BATCH
from whisper_farm.worker.api import FATAL, WorkerApi
from whisper_farm.worker.claims import ClaimCalls
from whisper_farm.worker.heartbeats import Heartbeats, Leases
from whisper_farm.worker.notices import Notice, Tell
from whisper_farm.worker.tasks import Wakeup

GATHER_SECONDS = 0.02
"""Results of one batch come nearly together: wait so long for company."""
MAX_GROUP_BYTES = 1 << 20
_MESSAGE_LENGTH = 4000
_CODE = "[a-z_]{1,64}"
_IT_IS_OVER = (errors.LeaseLost.code, errors.ResultConflict.code, errors.ModelMismatch.code)


@dataclass(frozen=True, slots=True)
class JobFailure:
    """A job that cannot be done, or not here; the fields are those of `protocol.worker.AttemptFailure`."""

    code: str
    message: str
    permanent: bool = False
    charged: bool = True


def failed_by(error: Exception) -> JobFailure:
    """How to report a job that this error ended. A line that is down is not the job's fault; a size limit is final.

    An error that nobody expected ends the job that met it, charged, and not the worker.
    """
    if not isinstance(error, errors.FarmError):
        return JobFailure(errors.Internal.code, f"The worker met an error that nobody expected: {error!r}")
    passing = isinstance(error, (errors.ServerUnreachable, errors.ObjectStoreRefused, *FATAL))
    return JobFailure(error.code, error.message, permanent=isinstance(error, errors.TooLarge), charged=not passing)


@dataclass(frozen=True, slots=True)
class _Ending:
    """The end of one job. There is no claim where the worker did not understand it."""

    token: str
    claim: worker.Claim | None
    completion: worker.Completion | None = None
    failure: worker.AttemptFailure | None = None
    work_seconds: float | None = None
    size: int = 0


class HandingIn:
    """What one worker has to hand in."""

    def __init__(
        self, api: WorkerApi, leases: Leases, heartbeats: Heartbeats, claiming: ClaimCalls, tell: Tell
    ) -> None:
        self._api, self._leases = api, leases
        self._heartbeats, self._claiming, self._tell = heartbeats, claiming, tell
        self._waiting: list[_Ending] = []
        self._sending = 0
        self._arrived = asyncio.Event()
        self._changed = Wakeup()

    def put(self, claim: worker.Claim, end: Result | JobFailure) -> None:
        """Hand this in, soon. A job that is no longer held is forgotten."""
        if claim.token not in self._leases:
            return
        self._leases.finish(claim.token)
        self._add(_ending(claim, end))

    def refuse(self, token: str, failure: JobFailure) -> None:
        """Report a job that was claimed, but is not understood here."""
        self._add(_Ending(token, None, failure=_reported(token, failure)))

    def _add(self, ending: _Ending) -> None:
        self._waiting.append(ending)
        self._arrived.set()
        self._claiming.changed.notify_all()

    async def run(self) -> None:
        """Send what arrives until cancelled."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(GATHER_SECONDS)
            group = self._next_group()
            self._sending = len(group)
            await self._heartbeats.sure_of([each.token for each in group])
            group = [each for each in group if each.token in self._leases or each.claim is None]
            await self._complete([each for each in group if each.completion])
            await self._fail([each for each in group if each.failure])
            self._sending = 0
            self._changed.notify_all()

    async def all_sent(self) -> None:
        """Return when nothing is waiting and nothing is on its way."""
        while self._waiting or self._sending:
            await self._changed.wait(1.0)

    def _next_group(self) -> list[_Ending]:
        count, size = 0, 0
        for each in self._waiting[:MAX_BATCH]:
            if count and size + each.size > MAX_GROUP_BYTES:
                break
            count, size = count + 1, size + each.size
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        if not self._waiting:
            self._arrived.clear()
        return group

    async def _complete(self, group: Sequence[_Ending]) -> None:
        """Hand results in. Where the server refuses the call as a whole: one by one, to find what it cannot take."""
        if not group:
            return
        completions = tuple(each.completion for each in group if each.completion)
        claim = self._claiming.to_go_along()
        request = worker.CompleteRequest(worker_id=self._api.worker_id, completions=completions, claim=claim)
        answer: worker.CompleteAnswer | None = None
        try:
            answer = await self._api.complete(request)
        except FATAL:
            raise
        except errors.FarmError as error:
            if len(group) == 1:
                await self._fail([_instead(group[0], JobFailure(error.code, error.message))])
            else:
                for each in group:
                    await self._complete([each])
        finally:
            if claim:
                self._claiming.came_along()
        if answer:
            self._claiming.take(answer.claims, answer.drain)
            await self._ended(group, answer.outcomes)

    async def _ended(self, group: Sequence[_Ending], outcomes: Sequence[worker.Outcome]) -> None:
        """Strike out what has ended; what was refused and still lives is failed."""
        refused = []
        by_token = {outcome.token: outcome for outcome in outcomes}
        for each in group:
            outcome = by_token.get(each.token)
            code = outcome.error_code if outcome else None
            if outcome and code and code not in _IT_IS_OVER:
                refused.append(_instead(each, JobFailure(code, outcome.message or "The server refused the result.")))
                continue
            self._leases.end(each.token)
            self._tell(_notice(each, outcome))
        await self._fail(refused)

    async def _fail(self, group: Sequence[_Ending]) -> None:
        if not group:
            return
        failures = tuple(each.failure for each in group if each.failure)
        try:
            await self._api.fail(worker.FailRequest(worker_id=self._api.worker_id, failures=failures))
        except FATAL:
            raise
        except errors.FarmError as error:
            if len(group) > 1:
                for each in group:
                    await self._fail([each])
                return
            self._tell(Notice("job_refused", f"The server does not take the failure of a job: {error}"))
        for each in group:
            self._leases.end(each.token)
            self._tell(_notice(each, None))


def _ending(claim: worker.Claim, end: Result | JobFailure) -> _Ending:
    token = claim.token
    if isinstance(end, JobFailure):
        return _Ending(token, claim, failure=_reported(token, end))
    completion = worker.Completion.of(token, end)
    seconds = end.work_seconds if isinstance(end, TranscribeResult) else None
    return _Ending(token, claim, completion, work_seconds=seconds, size=len(completion.result))


def _instead(ending: _Ending, failure: JobFailure) -> _Ending:
    """The end of a job whose result the server does not take."""
    return _Ending(ending.token, ending.claim, failure=_reported(ending.token, failure))


def _reported(token: str, failure: JobFailure) -> worker.AttemptFailure:
    """The failure as a message that the server takes, whatever an engine or a server made of code and text."""
    code = failure.code if re.fullmatch(_CODE, failure.code) else errors.EngineError.code
    text = failure.message.replace("\0", "").encode(errors="replace").decode()[:_MESSAGE_LENGTH]
    return worker.AttemptFailure(
        token=token, code=code, message=text, permanent=failure.permanent, charged=failure.charged
    )


def _notice(ending: _Ending, outcome: worker.Outcome | None) -> Notice:
    claim = ending.claim
    if claim is None:
        why = ending.failure.message if ending.failure else ""
        return Notice("job_failed", f"A job was handed back: {why}")
    data: dict[str, object] = {
        "job_id": claim.job_id,
        "transcription_id": claim.transcription_id,
        "position": claim.position,
        "attempt": claim.attempt,
        "kind": claim.task.kind,
    }
    if failure := ending.failure:
        return Notice("job_failed", f"Job {claim.job_id} failed: {failure.message}", data | {"code": failure.code})
    if outcome and outcome.error_code:
        data["code"] = outcome.error_code
        return Notice("job_refused", f"The result of job {claim.job_id} came too late: {outcome.message}", data)
    if isinstance(claim.task, TranscribeTask):
        data["audio_seconds"] = claim.task.end_seconds - claim.task.start_seconds
    if ending.work_seconds is not None:
        data["work_seconds"] = ending.work_seconds
    return Notice("job_finished", f"Job {claim.job_id} is done.", data)
