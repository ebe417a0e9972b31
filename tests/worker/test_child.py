"""A child process: its prints stay out of the messages, its death is explained, it never outlives its agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import psutil
import pytest
from support.processes import all_end

from whisper_farm.protocol.jobs import ChunkTask, Source
from whisper_farm.protocol.wire import Transfer
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker.child import Child, ChildDiedError, Role, exit_reason
from whisper_farm.worker.pipe import (
    CRASHED,
    Cancel,
    Capability,
    Load,
    LookAround,
    ReadRecording,
    Ready,
    Unavailable,
    read_message,
)

LOOK_AROUND = LookAround(engine="tones", slots=2, batch_size=3)
CUT = ReadRecording(
    task=ChunkTask(
        source=Source(name="x", size=1, transfer=Transfer(url="/", method="GET")), chunk_seconds=5,
    ),
)  # fmt: skip


@contextlib.asynccontextmanager
async def child(role: Role = "recogniser") -> AsyncIterator[Child]:
    running = await Child.start(role)
    try:
        yield running
    finally:
        await running.close()
        assert not psutil.pid_exists(running.pid), "it was ended and collected"


def test_a_recogniser_says_what_it_can_do_or_why_it_cannot() -> None:
    async def scene() -> None:
        async with child() as able, child() as unable:
            await able.send(LOOK_AROUND)
            await unable.send(LookAround(engine="tone"))
            answer, _ = await able.receive(60)
            assert isinstance(answer, Capability)
            assert (answer.engine, answer.slots, answer.batch, answer.shares_model) == ("tones", 2, 3, True)
            await able.send(Load(options=RecognitionOptions(engine="tones", model="instant"), slots=2, threads=1))
            assert isinstance((await able.receive(60))[0], Ready)
            refusal, _ = await unable.receive(60)
            assert isinstance(refusal, Unavailable)
            assert refusal.code == "engine_unavailable"
            assert "tones" in refusal.message

    asyncio.run(scene())


def test_a_killed_child_is_collected_and_its_end_explained() -> None:
    async def scene() -> None:
        async with child() as victim:
            await victim.send(LOOK_AROUND)
            await victim.receive(60)
            os.kill(victim.pid, signal.SIGKILL)
            with pytest.raises(ChildDiedError, match=r"signal 9 \(SIGKILL"):
                await victim.receive(60)
            with pytest.raises(ChildDiedError, match="SIGKILL"):
                await victim.send(LOOK_AROUND)

    asyncio.run(scene())


def test_the_last_words_of_a_crash_are_its_traceback() -> None:
    async def scene() -> None:
        async with child() as confused:
            await confused.send(CUT)
            with pytest.raises(ChildDiedError, match=f"exit status {CRASHED}") as death:
                await confused.receive(60)
            assert "A recogniser does not understand" in death.value.evidence

    asyncio.run(scene())


def test_a_silent_child_is_killed() -> None:
    async def scene() -> None:
        async with child() as silent:
            with pytest.raises(ChildDiedError, match=r"said nothing for 0\.2 s"):
                await silent.receive(0.2)

    asyncio.run(scene())


def test_what_libraries_print_does_not_get_between_the_messages() -> None:
    program = (
        "import os; from whisper_farm.worker.pipe import AgentPipe, Cancel;"
        "pipe = AgentPipe.on_standard_streams(); print('noise', flush=True); os.write(1, b'native noise');"
        "pipe.send(Cancel(batch=1, index=2)); print(repr(input if 0 else os.read(0, 10)), flush=True)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], input=b"not for libraries", capture_output=True, timeout=60, check=True
    )
    assert read_message(pipe := BytesIO(ended.stdout)) == (Cancel(batch=1, index=2), b"")
    assert pipe.read() == b""
    assert b"noise" in ended.stderr
    assert b"native noise" in ended.stderr
    assert b"b''" in ended.stderr, "standard input is empty for everybody else"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_child_ends_when_its_agent_closes_the_pipe() -> None:
    command = [sys.executable, "-P", "-m", "whisper_farm.worker.child_main", "recogniser", str(os.getpid())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            _when_ready(process.pid)
            process.send_signal(number)
        process.stdin.close()
        assert process.wait(60) == 0, "signals are the agent's business"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_the_kernel_ends_a_child_that_cannot_even_look_when_its_agent_is_killed() -> None:
    program = (
        "import asyncio, sys; from whisper_farm.worker.child import Child\n"
        "async def main():\n"
        "    child = await Child.start('recogniser'); print(child.pid, flush=True); await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        _when_ready(pid)
        os.kill(pid, signal.SIGSTOP)
        parent.kill()
        parent.wait(60)
    all_end([pid])


def _when_ready(pid: int) -> None:
    """Wait until a child has tied itself to its agent; the last sign is its oom score."""
    give_up_at = time.monotonic() + 60
    while Path(f"/proc/{pid}/oom_score_adj").read_text().strip() != "500":
        assert time.monotonic() < give_up_at, "the child does not tie itself to its agent"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit status 0"),
        (1, "exit status 1"),
        (-9, "SIGKILL"),
        (-11, "SIGSEGV"),
        (3221225477, "0xc0000005"),
        (-200, "unknown"),
    ],
)
def test_every_way_to_end_has_words(code: int, words: str) -> None:
    assert words in exit_reason(code)
