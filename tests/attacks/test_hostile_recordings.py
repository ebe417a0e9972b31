"""A hostile recording hurts only itself: what reads it has bounds that no file can talk its way out of."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import av
import numpy as np
import pytest
from support.hand_worker import MakeWorker
from support.recordings import encoded, noise
from support.served_farm import StartFarm, refused
from support.submitting import submit

from whisper_farm.audio import containers, flac
from whisper_farm.audio.source import AudioSource
from whisper_farm.engines.engine import Engine
from whisper_farm.errors import AudioError, NotAudio
from whisper_farm.protocol.jobs import ChunkTask, Source
from whisper_farm.protocol.wire import Transfer
from whisper_farm.settings import Policy
from whisper_farm.transcript.options import RecognitionOptions
from whisper_farm.worker import recogniser_child
from whisper_farm.worker.api import WorkerApi
from whisper_farm.worker.bounds import CUTTER_MEMORY_BYTES, OPEN_SECONDS, only_harmless, without_farm
from whisper_farm.worker.child import Child, ChildDiedError, exit_reason
from whisper_farm.worker.pipe import (
    AgentPipe,
    BatchChunk,
    BatchEnded,
    LookAround,
    PipeMessage,
    Recognise,
    Refused,
    WantBlock,
    packed,
)
from whisper_farm.worker.reading import Reading
from whisper_farm.worker.recogniser import MissingError, Recogniser
from whisper_farm.worker.recogniser_child import RecogniserChild

POSIX = pytest.mark.skipif(os.name != "posix", reason="the kernel's limits are POSIX")
NO_GPU = pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="beside a GPU files are left to its driver")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="address space is bounded on Linux")


def run(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=300, check=False
    )


def crowded_id3(frames: int) -> bytes:
    """A tag of that many frames, each of another name."""
    body = b"".join(
        b"TXXX" + len(text).to_bytes(4, "big") + b"\0\0" + text
        for text in (b"\0%d\0x" % number for number in range(frames))
    )
    size = bytes((len(body) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + body


def crowded_flac(comments: int) -> bytes:
    """FLAC with so many comments, and a picture of a megabyte."""
    of = b"".join(len(text).to_bytes(4, "little") + text for text in (b"%d=x" % number for number in range(comments)))
    comment = bytes(4) + comments.to_bytes(4, "little") + of
    blocks = b"".join(bytes([k]) + len(b).to_bytes(3, "big") + b for k, b in ((4, comment), (6, bytes(1 << 20))))
    whole = encoded(noise(2.0), "flac", "flac", 16_000)
    return whole[:4] + bytes([0]) + whole[5:42] + blocks + whole[42:]


def crowded_wav(frames: int) -> bytes:
    """WAV with such a tag within it."""
    whole, tag = encoded(noise(2.0), "wav", "pcm_s16le", 16_000), crowded_id3(frames)
    return whole[:12] + b"id3 " + len(tag).to_bytes(4, "little") + tag + whole[12:]


@pytest.mark.parametrize("form", ["mp3", "adts", "flac"])
def test_crowds_of_tags_before_the_sound_are_passed_over(form: str) -> None:
    """Read, these would take minutes."""
    codec = {"mp3": "libmp3lame", "adts": "aac", "flac": "flac"}[form]
    plain = encoded(noise(2.0), form, codec, 16_000)
    crowded = crowded_flac(100_000) if form == "flac" else 2 * crowded_id3(100_000) + plain
    began = time.process_time()
    with AudioSource(io.BytesIO(crowded), "x") as full, AudioSource(io.BytesIO(plain), "x") as bare:
        assert time.process_time() - began < 1
        assert full.facts == bare.facts
        frames = [[frame.to_ndarray() for frame in one.container.decode(one.stream)] for one in (full, bare)]
    assert np.array_equal(*(np.concatenate(each, axis=1) for each in frames))


@pytest.mark.parametrize(
    ("form", "codec", "changes"),
    [
        ("mp3", "libmp3lame", {b"Info": b"none", b"Xing": b"none", 1000: b"Xing\0\0\0\x0f" + b"\xff" * 4}),
        ("matroska", "pcm_s16le", {b"00:00:02.000000000": b"9999999:00:00.0000"}),
    ],
)
def test_a_length_that_nothing_can_have_is_no_promise(form: str, codec: str, changes: dict[bytes | int, bytes]) -> None:
    """The fuzzer's find: a cutter died of it."""
    whole = bytearray(encoded(noise(2.0), form, codec, 48_000))
    for place, new in changes.items():
        at = place if isinstance(place, int) else whole.find(place)
        if at >= 0:
            whole[at : at + len(new)] = new
    assert AudioSource(io.BytesIO(bytes(whole)), "x").facts.declared_seconds is None


@pytest.mark.parametrize("damaged", [crowded_id3(9000)[:80_000], crowded_id3(9000), b"fLaC\x04\xff\xff\xff", b"fLaC"])
def test_tags_without_a_sound_are_refused(damaged: bytes) -> None:
    with pytest.raises(NotAudio):
        AudioSource(io.BytesIO(damaged), "x")


def crowded_by(form: str, codec: str, tags: int) -> bytes:
    """A recording with so many tags, as this container writes them."""
    out, options = io.BytesIO(), {"movflags": "use_metadata_tags"} if form == "mp4" else {}
    with av.open(out, "w", format=form, options=options) as container:
        container.metadata.update({f"k{number}": "x" for number in range(tags)})
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        silent = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), format="s16", layout="mono")
        silent.rate = 48_000
        for frame in (silent, None):
            container.mux(stream.encode(frame))
    return out.getvalue()


@POSIX
@pytest.mark.parametrize(
    "make",
    [
        lambda: crowded_wav(40_000),
        lambda: crowded_by("ogg", "libopus", 22_000),
        lambda: crowded_by("webm", "libopus", 26_000),
        lambda: crowded_by("mp4", "aac", 36_000),
    ],
    ids=["wav", "ogg", "webm", "mp4"],
)
def test_opening_a_recording_that_computes_for_ever_is_ended_by_the_kernel(
    tmp_path: Path, make: Callable[[], bytes]
) -> None:
    """Tags within a container are read, each held against all before it: the more there are, the longer each takes."""
    file = tmp_path / "tags.wav"
    file.write_bytes(make())
    ended = run(
        "import sys\nfrom whisper_farm.worker.bounds import bound_processor\n"
        "from whisper_farm.audio.source import AudioSource\n"
        "bound_processor(0); AudioSource(sys.argv[1], 'tags.wav')",
        str(file),
    )
    assert ended.returncode == -signal.SIGXCPU
    assert ChildDiedError(f"The cutter process 1 {exit_reason(ended.returncode)}.").out_of_processor_time


@POSIX
def test_the_count_of_processor_time_begins_anew_with_every_recording() -> None:
    ended = run(
        "import time; from whisper_farm.worker.bounds import bound_processor\n"
        "for _ in range(3):\n"
        "    bound_processor(2); until = time.process_time() + 1\n"
        "    while time.process_time() < until: pass\n"
    )
    assert ended.returncode == 0, ended.stderr


@LINUX
def test_a_cutter_gets_no_more_memory_than_it_may_have() -> None:
    ended = run(
        "from whisper_farm.worker.bounds import bound_memory, CUTTER_MEMORY_BYTES\n"
        "bound_memory(CUTTER_MEMORY_BYTES)\n"
        "try: bytearray(CUTTER_MEMORY_BYTES)\n"
        "except MemoryError: print('refused')"
    )
    assert ended.stdout == "refused\n"


@LINUX
def test_pictures_that_call_themselves_video_are_not_decoded(tmp_path: Path) -> None:
    file = tmp_path / "covers.mov"
    with av.open(str(file), "w") as container:
        videos = [container.add_stream("png", width=5000, height=5000, pix_fmt="rgb24") for _ in range(4)]
        sound = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        picture = av.VideoFrame.from_ndarray(np.zeros((5000, 5000, 3), np.uint8))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16_000
        packets = videos[0].encode(picture) + videos[0].encode(None)
        for video in videos:
            for packet in packets:
                packet.stream = video
                container.mux(packet)
        container.mux(sound.encode(frame))
    # The peak that `getrusage` tells begins with that of the process which started this one.
    peak = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    opened = "AudioSource(sys.argv[1], 'x') if sys.argv[1] else 0"
    code = f"import sys; from whisper_farm.audio.source import AudioSource; {opened}\n"
    alone, with_file = (int(run(code + peak, words).stdout) for words in ("", str(file)))
    assert with_file - alone < 60_000, "kilobytes; one picture has 75,000"


def test_a_file_of_more_streams_than_any_recording_has_is_refused() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mov") as container:
        streams = [container.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(200)]
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 80), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        for stream in streams:
            container.mux(stream.encode(frame))
    file.seek(0)
    with pytest.raises(NotAudio):
        AudioSource(file, "tracks.mov")


def test_containers_in_which_nobody_records_are_not_opened() -> None:
    """The sound of games: FFmpeg reads a hundred such formats, each with mistakes of its own."""
    game = encoded(noise(2.0), "adx", "adpcm_adx", 16_000)
    with av.open(io.BytesIO(game)) as container:
        assert container.streams.audio
    with pytest.raises(NotAudio):
        AudioSource(io.BytesIO(game), "x")


def test_only_decoders_of_sound_may_run() -> None:
    allowed = containers.CODECS.split(",")
    assert {"mp3", "aac", "opus", "flac", "pcm_s16le", "vorbis", "alac", "wmav2"} <= set(allowed)
    assert not {"png", "h264", "mjpeg", "ass"} & set(allowed)
    assert not {"hls", "concat", "dash", "image2", "lavfi", "rtsp", "sdp"} & set(containers.FORMATS.split(","))


def test_a_chunk_that_decodes_to_more_than_it_was_announced_with_is_refused_at_once() -> None:
    bomb = flac.encode(np.zeros(16_000 * 590, np.float32))
    assert len(bomb) < 200_000
    with pytest.raises(AudioError, match="longer than"):
        flac.decode_flac(bomb, most_seconds=30)
    assert len(flac.decode_flac(flac.encode(np.zeros(16_000 * 30, np.float32)), most_seconds=30)) == 16_000 * 30


def test_a_recogniser_hears_no_more_than_was_announced() -> None:
    said: list[PipeMessage] = []

    class Pipe:
        def send(self, message: PipeMessage, body: bytes = b"") -> None:
            said.append(message)

    child = RecogniserChild(cast(AgentPipe, Pipe()))
    bomb = flac.encode(np.zeros(16_000 * 60, np.float32))
    announced = BatchChunk(batch=1, start_seconds=0, seconds=30, language=None, expected_language=None)
    assert child._decoded(1, [(announced, bomb), (announced, flac.encode(np.zeros(16_000, np.float32)))]).keys() == {1}
    assert [(one.index, one.code) for one in said if isinstance(one, Refused)] == [(0, AudioError.code)]


@pytest.mark.parametrize("policy", [Policy(free_audio_seconds=0), Policy(max_audio_seconds=50)])
def test_a_small_file_does_not_become_days_of_sound(
    start_farm: StartFarm, make_worker: MakeWorker, policy: Policy
) -> None:
    """Beyond what is free it may have a tenth of a second for each byte, and no more than any recording."""
    farm = start_farm(policy=policy)
    worker = make_worker(farm)
    submit(farm.admin, audio=b"f" * 502)
    (cutting,) = worker.claim(0, chunk=1)
    chunk = {**worker.upload(cutting, 0), "end_seconds": 30.0}
    worker.told("append", token=cutting["token"], chunks=[chunk])
    more = {**worker.upload(cutting, 1), "start_seconds": 30.0, "end_seconds": 60.0}
    assert refused(worker.ask("append", token=cutting["token"], chunks=[more])) == (413, "too_large")


def test_whoever_reads_the_files_of_strangers_is_told_no_secrets() -> None:
    """By a list of what is harmless: nobody knows the names of all secrets. A proxy's address may hold a password."""
    secrets = {
        "WHISPER_FARM_TOKEN": "x", "WHISPER_FARM_WORKER_TOKEN": "x", "AWS_SECRET_ACCESS_KEY": "x", "PGPASSWORD": "x",
        "HF_TOKEN": "x", "SENTRY_DSN": "x", "OPENAI_API_KEY": "x", "HTTPS_PROXY": "http://me:x@proxy", "NETRC": "x",
        "SSH_AUTH_SOCK": "x", "MY_PASS": "x", "KUBECONFIG": "x", "PYTHONSTARTUP": "x",
    }  # fmt: skip
    kept = {"PATH": "/bin", "HOME": "/root", "LANG": "C", "TMPDIR": "/tmp", "LD_LIBRARY_PATH": "/l", "TZ": "UTC"}
    assert only_harmless({**secrets, **kept}) == kept


def test_a_recogniser_has_the_keys_of_its_engine_and_none_of_the_farm() -> None:
    farm = {"WHISPER_FARM_WORKER_TOKEN": "x", "WHISPER_FARM_DATABASE": "x", "AWS_SECRET_ACCESS_KEY": "x", "PGUSER": "x"}
    assert without_farm({**farm, "HF_TOKEN": "x", "OPENAI_API_KEY": "y"}) == {"HF_TOKEN": "x", "OPENAI_API_KEY": "y"}


SANDBOXED = """
import os, socket, subprocess, sys
from whisper_farm.worker.sandbox import enter
held = enter(sys.argv[1])
import whisper_farm.worker.cutter_child
tries = dict(
    socket=lambda: socket.socket(), program=lambda: subprocess.run(["true"]), agent=lambda: os.kill(os.getppid(), 0),
    read=lambda: open(sys.argv[2]).read(), list=lambda: os.listdir("/"), write=lambda: open(sys.argv[2], "w"),
    environment=lambda: open(f"/proc/{os.getppid()}/environ").read(),
)
for name, attempt in tries.items():
    try:
        attempt()
        print(name)
    except PermissionError:
        pass
open(sys.argv[1] + "/copy", "w").write("x")
print("copy", *held)
"""


@LINUX
def test_a_cutter_reaches_no_network_no_program_and_no_file_of_others(tmp_path: Path) -> None:
    """What it needs is imported inside. A kernel without both would print more: such a machine is named by `doctor`."""
    (tmp_path / "own").mkdir()
    other = tmp_path / "secret"
    other.write_text("x")
    ended = run(SANDBOXED, str(tmp_path / "own"), str(other))
    assert ended.stdout == "copy landlock seccomp\n", ended.stderr


CONFINED = """
import os, sys
from whisper_farm.worker.sandbox import confine
engine, own, secret, model = sys.argv[1:]
held = confine(engine, own, [model])
import whisper_farm.worker.recogniser_child
from whisper_farm.engines import hearing
tries = dict(
    read=lambda: open(secret).read(), list=lambda: os.listdir("/"), write=lambda: open(secret, "w"),
    spoil=lambda: open(model + "/model.bin", "w"), more=lambda: open(model + "/more", "w"),
    environment=lambda: open(f"/proc/{os.getppid()}/environ").read(),
)
for name, attempt in tries.items():
    try:
        attempt()
        print(name)
    except PermissionError:
        pass
open(own + "/scratch", "w").write("x")
print(open(model + "/model.bin").read(), held)
"""


@LINUX
@NO_GPU
@pytest.mark.parametrize("engine", ["faster-whisper", "openai", "transcribe-cpp"])
def test_a_recogniser_reads_models_and_no_file_of_others_and_writes_nothing_but_its_own(
    tmp_path: Path, engine: str
) -> None:
    own, secret, model = tmp_path / "own", tmp_path / "secret", tmp_path / "model"
    for folder in (own, model):
        folder.mkdir()
    secret.write_text("x")
    (model / "model.bin").write_text("weights")
    ended = run(CONFINED, engine, str(own), str(secret), str(model))
    assert ended.stdout == "weights True\n", ended.stderr


@LINUX
@NO_GPU
def test_a_recogniser_of_a_worker_is_confined_and_has_a_folder_that_ends_with_it(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "vocabulary.txt", "model.bin"):
        (tmp_path / name).write_text("{}")
    options = RecognitionOptions(model=str(tmp_path))

    async def loaded(models: list[str]) -> None:
        recogniser = await Recogniser.start(LookAround(engine="faster-whisper", device="cpu"), models)
        scratch = recogniser._child._scratch
        assert scratch is not None
        try:
            with pytest.raises(MissingError):
                await recogniser.load(options, lambda _: None)
        finally:
            await recogniser.close()
            assert not await asyncio.to_thread(Path(scratch.name).exists)

    with pytest.raises(ChildDiedError) as death:
        asyncio.run(loaded([]))
    assert "PermissionError" in death.value.last_words
    asyncio.run(loaded([options.model]))  # it was read, and is no model


LOADED = """
import socket, subprocess, sys, threading
from whisper_farm.worker.sandbox import leave
go, tried = threading.Event(), []
def work():
    go.wait()
    for name, attempt in dict(network=lambda: socket.socket(), programs=lambda: subprocess.run(["true"])).items():
        try:
            attempt()
            tried.append(name)
        except PermissionError:
            pass
slot = threading.Thread(target=work)
slot.start()
assert leave(sys.argv[1].split())
go.set()
slot.join()
print(*tried)
"""


@LINUX
@pytest.mark.parametrize("needs", ["", "network", "programs", "network programs"])
def test_a_recogniser_keeps_in_all_its_threads_what_its_engine_needs_and_no_more(needs: str) -> None:
    ended = run(LOADED, needs)
    assert ended.stdout == f"{needs}\n", ended.stderr


def held_by(pid: int) -> list[str]:
    """The limits of a process, and the state of each of its threads."""
    process = Path(f"/proc/{pid}")
    held = [(process / "limits").read_text()]
    for one in process.glob("task/*/status"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended by now
            held.append(one.read_text())
    return held


@POSIX
def test_a_batch_has_as_much_processor_time_as_its_clock_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[int] = []
    monkeypatch.setattr(recogniser_child, "bound_processor", bounds.append)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)

    class Silent:
        def send(self, message: PipeMessage, body: bytes = b"") -> None:
            assert isinstance(message, BatchEnded)

    child = RecogniserChild(cast(AgentPipe, Silent()))
    child._order = LookAround(engine="tones", chunk_timeout_seconds=7.5)
    child._engine = cast(Engine, SimpleNamespace(recognise=lambda *_: iter(())))
    child._recognise(Recognise(batch=1, options=RecognitionOptions()), [])
    assert bounds == [32]


@LINUX
def test_the_recogniser_of_a_worker_is_bounded_before_it_hears_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WHISPER_FARM_WORKER_TOKEN", "secret")

    async def scene() -> str:
        recogniser = await Recogniser.start(LookAround(engine="tones", device="cpu"))
        try:
            options = RecognitionOptions(engine="tones", model="instant")
            await recogniser.load(options, lambda _: None)
            limits, *states = await asyncio.to_thread(held_by, recogniser.pid)
            environment = await asyncio.to_thread(Path(f"/proc/{recogniser.pid}/environ").read_bytes)
            assert b"secret" not in environment
            assert len(states) > 1
            assert all("Seccomp:\t2" in state for state in states)
            return next(line for line in limits.splitlines() if line.startswith("Max data size"))
        finally:
            await recogniser.close()

    assert "unlimited" not in asyncio.run(scene())


@LINUX
def test_the_cutter_of_a_worker_is_in_its_sandbox_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it opens a recording, of which nothing comes here."""
    monkeypatch.setenv("WHISPER_FARM_TOKEN", "secret")
    source = Source(name="x", size=1000, transfer=Transfer(url="/", method="GET"))

    async def held() -> tuple[str, str, bytes]:
        child = await Child.start("cutter")
        try:
            api = WorkerApi("http://127.0.0.1:9", "x", 1)
            reading = Reading(child, api, ChunkTask(source=source, chunk_seconds=5), 30)
            await reading.begin()
            assert isinstance((await child.receive(30))[0], WantBlock)
            place = Path(f"/proc/{child.pid}")
            return await asyncio.to_thread(
                lambda: (
                    (place / "status").read_text(),
                    (place / "limits").read_text(),
                    (place / "environ").read_bytes(),
                )
            )
        finally:
            await child.close()

    status, limits, environment = asyncio.run(held())
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    bounds = {line[:17].strip(): line.split()[3] for line in limits.splitlines()}
    assert bounds["Max address space"] == str(CUTTER_MEMORY_BYTES)
    assert 0 < int(bounds["Max cpu time"]) - OPEN_SECONDS < 20, "what it had used before is in it"
    assert b"secret" not in environment


def test_what_a_cutter_is_told_names_no_place_and_no_token() -> None:
    source = Source(name="x", size=1, transfer=Transfer(url="/secret", method="GET", headers={"a": "secret"}))

    class Listener:
        async def send(self, message: PipeMessage, body: bytes = b"") -> None:
            assert b"secret" not in packed(message)

    api = WorkerApi("http://127.0.0.1:9", "secret", 1)
    asyncio.run(Reading(cast(Child, Listener()), api, ChunkTask(source=source, chunk_seconds=5), 1).begin())


def test_a_cutter_gets_no_blocks_beyond_its_recording() -> None:
    """Nor does wanting them keep it alive."""
    source = Source(name="x", size=1, transfer=Transfer(url="/", method="GET"))

    async def scene() -> None:
        child = await Child.start("cutter")
        try:
            api = WorkerApi("http://127.0.0.1:9", "x", 1)
            reading = Reading(child, api, ChunkTask(source=source, chunk_seconds=5), 30)

            async def want(seconds: float | None = None) -> tuple[PipeMessage, bytes]:
                if child._reason:
                    return await Child.receive(child)
                return WantBlock(ask=0, number=1), b""

            child.receive = want  # type: ignore[method-assign]
            with pytest.raises(ChildDiedError, match="not in its recording"):
                await reading.receive()
            await reading.close()
        finally:
            await child.close()

    asyncio.run(scene())
