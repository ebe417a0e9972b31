"""The Python client of a farm, for programs with an event loop; `client/farm.py` is the one for all others.

::

    async with AsyncFarmClient("http://farm.example:8765", token) as farm:
        view = await farm.submit_file(Path("talk.mp3"), options=RecognitionOptions(model="turbo"))
        async for event in farm.events(transcription=view.id):
            ...
        print((await farm.transcript(view.id)).text)

Promises: an error of the farm comes back as the same exception class that the farm raised. A call that may be sent
twice without harm is sent again after a lost answer. Files are streamed, never held in memory. Every call ends within
its time-out, all tries together; a body that passes at a fair rate may take longer. It keeps no state: whoever submits
the same key again gets the transcription that is there.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self
from urllib.parse import quote

from whisper_farm.client.calls import Calls
from whisper_farm.client.events import AsyncEventStream
from whisper_farm.client.uploads import Progress, no_progress, sendable, upload
from whisper_farm.protocol import administration, subscriptions
from whisper_farm.protocol import client as api
from whisper_farm.protocol.machines import MachineAction, MachineLine, MachineList, MachineLog, MachineView, PoolChange
from whisper_farm.transcript.cues import PLAIN, CueLayout
from whisper_farm.transcript.document import from_json
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.transcript.transcript import Transcript


class AsyncFarmClient:
    """One farm, seen through one access token."""

    def __init__(self, server: str, token: str, timeout: float = 30.0) -> None:
        self._calls = Calls(server, token, timeout)
        self.address = self._calls.transport.server

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all connections."""
        await self._calls.transport.close()

    async def server(self) -> administration.ServerView:
        """Who answers, and what it can do."""
        return await self._calls.ask(administration.ServerView, "GET", "/api/server")

    async def limits(self) -> administration.LimitsView:
        """What one person or token may have at the same time, and how long transcriptions are kept (admins only)."""
        return await self._calls.ask(administration.LimitsView, "GET", "/api/limits")

    async def change_limits(self, change: administration.LimitsChange) -> administration.LimitsView:
        """Change those limits that are named; they count at once."""
        return await self._calls.ask(administration.LimitsView, "PATCH", "/api/limits", body=change, again=True)

    async def submit(self, submission: api.Submission) -> api.TranscriptionView:
        """Ask for a transcription. With a key it may be sent again; without one it is sent once."""
        again = submission.key is not None
        return await self._calls.ask(api.TranscriptionView, "POST", "/api/transcriptions", body=submission, again=again)

    async def submit_batch(self, submissions: Sequence[api.Submission]) -> list[api.Submitted]:
        """Ask for up to a hundred transcriptions; each is taken or refused by itself, and answered in its place."""
        again = all(one.key is not None for one in submissions)
        batch = api.Batch(submissions=list(submissions))
        answer = await self._calls.ask(api.BatchView, "POST", "/api/transcriptions/batch", body=batch, again=again)
        return answer.submissions

    async def submit_file(
        self,
        path: Path,
        *,
        options: RecognitionOptions | None = None,
        chunk_seconds: float = 30,
        key: str | None = None,
        sha256: str | None = None,
        progress: Progress = no_progress,
    ) -> api.TranscriptionView:
        """Upload a recording and ask for its transcription."""
        upload_id = await self.upload(path, progress)
        return await self.submit(
            api.Submission(
                name=sendable(path.name),
                upload_id=upload_id,
                options=options or RecognitionOptions(),
                chunk_seconds=chunk_seconds,
                key=key,
                sha256=sha256,
            )
        )

    async def upload(self, path: Path, progress: Progress = no_progress) -> str:
        """Send a file to the farm; returns the id under which it can be submitted."""
        return await upload(self._calls, path, progress)

    async def get(self, transcription_id: str) -> api.TranscriptionView:
        """A transcription: state, progress, gaps."""
        return await self._calls.ask(api.TranscriptionView, "GET", _place(transcription_id))

    async def list(
        self, state: api.TranscriptionState | None = None, feed: str | None = None
    ) -> AsyncGenerator[api.TranscriptionView, None]:
        """The transcriptions this token may see, newest first, asked for page by page as they are taken."""
        query = {name: value for name, value in (("state", state), ("feed", feed)) if value is not None}
        while True:
            page = await self._calls.ask(api.TranscriptionList, "GET", "/api/transcriptions", query=query)
            for view in page.transcriptions:
                yield view
            if page.next is None:
                return
            query["after"] = page.next

    async def search(self, words: str, limit: int = 50) -> tuple[api.Hit, ...]:
        """Passages in which these words are said, the newest transcription first."""
        return (await self._calls.ask(api.HitList, "GET", "/api/search", query={"words": words, "limit": limit})).hits

    async def jobs(self, transcription_id: str) -> AsyncGenerator[api.JobView, None]:
        """Every job of a transcription with the evidence of its attempts."""
        query: dict[str, str | int | float] = {}
        while True:
            page = await self._calls.ask(api.JobList, "GET", f"{_place(transcription_id)}/jobs", query=query)
            for job in page.jobs:
                yield job
            if page.next is None:
                return
            query["after"] = page.next

    async def cancel(self, transcription_id: str) -> api.TranscriptionView:
        """Stop a transcription."""
        return await self._calls.ask(api.TranscriptionView, "POST", f"{_place(transcription_id)}/cancel", again=True)

    async def retry(self, transcription_id: str, job_id: str | None = None) -> api.TranscriptionView:
        """Try again what failed or was cancelled, or only that job, which was set aside; what is done is kept."""
        which = "" if job_id is None else f"/jobs/{_quoted(job_id)}"
        return await self._calls.ask(api.TranscriptionView, "POST", f"{_place(transcription_id)}{which}/retry")

    async def delete(self, transcription_id: str) -> None:
        """Delete a finished transcription, its audio and its transcript."""
        await self._calls.send("DELETE", _place(transcription_id), again=True)

    async def transcript(self, transcription_id: str) -> Transcript:
        """The whole transcript."""
        return from_json(json.loads(await self._document(transcription_id, "json")))

    async def rendered(self, transcription_id: str, format: str, layout: CueLayout = PLAIN) -> bytes:
        """The transcript as the content of a file in one of the output formats; subtitles in this layout."""
        return await self._document(transcription_id, format, layout)

    async def segments(self, transcription_id: str, after: int = -1) -> api.SegmentPage:
        """What was said in the finished chunks after position `after`, as far as they follow it without a hole."""
        place = f"{_place(transcription_id)}/segments"
        return await self._calls.ask(api.SegmentPage, "GET", place, query={"after": after})

    async def workers(self) -> tuple[administration.WorkerView, ...]:
        """The workers the farm has heard of lately."""
        return (await self._calls.ask(administration.WorkerList, "GET", "/api/workers")).workers

    async def add_feed(self, feed: subscriptions.NewFeed) -> subscriptions.FeedView:
        """Have the episodes of a feed transcribed."""
        return await self._calls.ask(subscriptions.FeedView, "POST", "/api/feeds", body=feed)

    async def feeds(self) -> tuple[subscriptions.FeedView, ...]:
        """The feeds that are looked at."""
        return (await self._calls.ask(subscriptions.FeedList, "GET", "/api/feeds")).feeds

    async def remove_feed(self, feed_id: str) -> None:
        """Look at a feed no more; what was transcribed stays."""
        await self._calls.send("DELETE", f"/api/feeds/{_quoted(feed_id)}", again=True)

    async def add_webhook(self, webhook: subscriptions.NewWebhook) -> subscriptions.WebhookView:
        """Have an address told of the own transcriptions; only this answer has the secret."""
        return await self._calls.ask(subscriptions.WebhookView, "POST", "/api/webhooks", body=webhook)

    async def webhooks(self) -> tuple[subscriptions.WebhookView, ...]:
        """The addresses that are told."""
        return (await self._calls.ask(subscriptions.WebhookList, "GET", "/api/webhooks")).webhooks

    async def remove_webhook(self, webhook_id: str) -> None:
        """Send nothing there any more."""
        await self._calls.send("DELETE", _hook(webhook_id), again=True)

    async def test_webhook(self, webhook_id: str) -> subscriptions.DeliveryView:
        """Send it a message that tells of nothing; `deliveries` says what became of it."""
        return await self._calls.ask(subscriptions.DeliveryView, "POST", f"{_hook(webhook_id)}/test")

    async def deliveries(self, webhook_id: str) -> tuple[subscriptions.DeliveryView, ...]:
        """The newest messages of a webhook, and what became of them."""
        return (await self._calls.ask(subscriptions.DeliveryList, "GET", f"{_hook(webhook_id)}/deliveries")).deliveries

    async def redeliver(self, webhook_id: str, message_id: str) -> subscriptions.DeliveryView:
        """Send a message once more."""
        place = f"{_hook(webhook_id)}/deliveries/{_quoted(message_id)}/redeliver"
        return await self._calls.ask(subscriptions.DeliveryView, "POST", place)

    async def drain(self, worker_id: str) -> None:
        """Let a worker finish what it holds and leave."""
        await self._calls.send("POST", f"/api/workers/{_quoted(worker_id)}/drain", again=True)

    async def change_hours(self, worker_id: str, hours: str | None) -> administration.WorkerView:
        """Say when all workers of this one's name work: hours, empty for any time, None for as they were started."""
        body, place = administration.WorkingHours(hours=hours), f"/api/workers/{_quoted(worker_id)}/hours"
        return await self._calls.ask(administration.WorkerView, "PUT", place, body=body, again=True)

    async def machines(self) -> MachineList:
        """The pools of machines, and the machines that count or ended today."""
        return await self._calls.ask(MachineList, "GET", "/api/machines")

    async def sync_machines(self) -> MachineList:
        """The same, and let the farm look at all providers now."""
        return await self._calls.ask(MachineList, "POST", "/api/machines/sync", again=True)

    async def machine_log(self, machine: str | None = None) -> tuple[MachineLine, ...]:
        """What happened to machines, newest first; to one of them or to all."""
        return (
            await self._calls.ask(
                MachineLog, "GET", "/api/machines/log", query={"machine": machine} if machine else None
            )
        ).lines

    async def change_pool(self, pool: str, change: PoolChange) -> MachineList:
        """Switch a pool, or fix how many machines it shall have."""
        return await self._calls.ask(MachineList, "POST", f"/api/pools/{_quoted(pool)}", body=change, again=True)

    async def change_machine(self, machine: str, action: MachineAction) -> MachineView:
        """Ask that a machine be started, drained, stopped or destroyed."""
        return await self._calls.ask(MachineView, "POST", f"/api/machines/{_quoted(machine)}/{action}", again=True)

    async def create_token(
        self, name: str, scope: administration.Scope, owner: str | None = None, days: float | None = None
    ) -> administration.TokenView:
        """Make an access token, for so many days; the secret is in this answer and nowhere else."""
        body = administration.NewToken(name=name, scope=scope, owner=owner, days=days)
        return await self._calls.ask(administration.TokenView, "POST", "/api/tokens", body=body)

    async def tokens(self) -> tuple[administration.TokenView, ...]:
        """The access tokens, without their secrets."""
        return (await self._calls.ask(administration.TokenList, "GET", "/api/tokens")).tokens

    async def revoke_token(self, token_id: str, only: bool = False) -> None:
        """End an access token and, unless `only`, all that were made with it."""
        await self._calls.send("DELETE", f"/api/tokens/{_quoted(token_id)}", query={"only": only}, again=True)

    def events(self, after: int | None = None, transcription: str | None = None) -> AsyncGenerator[api.EventView, None]:
        """Follow what happens, of one transcription or of all that this token may see, for ever."""
        return aiter(AsyncEventStream(self._calls.transport, after, transcription))

    async def _document(self, transcription_id: str, format: str, layout: CueLayout = PLAIN) -> bytes:
        query = {"format": format, **{name: value for name, value in asdict(layout).items() if value}}
        return await self._calls.send("GET", f"{_place(transcription_id)}/transcript", query, again=True)


def _quoted(identifier: str) -> str:
    return quote(identifier, safe="")


def _place(transcription_id: str) -> str:
    return f"/api/transcriptions/{_quoted(transcription_id)}"


def _hook(webhook_id: str) -> str:
    return f"/api/webhooks/{_quoted(webhook_id)}"
