"""Any program that writes Whisper's JSON as a recogniser: Whisper's own, whisper-ctranslate2, faster-whisper-xxl.

`WHISPER_COMMAND` is the command, such as `whisper {audio} --model={model} --output_dir={output_dir}
--output_format=json --language={language} --task={task}`. No shell reads it. An argument that names a language is left
out where none is known. The chunks of a batch with one language are one call: the model is loaded once for them.

Promises: the program has a total time, no standard input and none of the farm's secrets. It is ended when nobody wants
its chunks any more and, on Linux, when the worker ends. What it writes is bounded and checked.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from whisper_farm.audio.sound import SAMPLE_RATE, Waveform
from whisper_farm.engines.against_speech import AgainstSpeech
from whisper_farm.engines.engine import (
    ChunkAudio,
    Engine,
    EngineFacts,
    EngineSettings,
    EngineTraits,
    Progress,
    Recognition,
)
from whisper_farm.engines.whisper_json import MOST_BYTES, recognition_of
from whisper_farm.errors import EngineError, EngineUnavailable, ModelUnavailable, OptionUnsupported
from whisper_farm.transcript.options import RecognitionOptions

SETTING = "WHISPER_COMMAND"
LIMIT_SECONDS = 1500.0
"""For one call; less than a worker gives a batch."""
_LOOK_SECONDS = 0.1
_LAST_WORDS_BYTES = 2000
_TIED = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0);"
    "os.getppid() == int(sys.argv[1]) and os.execvp(sys.argv[2], sys.argv[2:])"
)
"""Becomes the program, which the kernel ends together with this process (Linux)."""


@dataclass(slots=True)
class CommandEngine:
    """Runs the program for each batch."""

    facts: EngineFacts
    template: Sequence[str]

    def recognise(
        self, chunks: Sequence[ChunkAudio], options: RecognitionOptions, cancelled: Callable[[int], bool]
    ) -> Iterator[tuple[int, Recognition]]:
        """See the contract in `engine.Engine`."""
        languages = {index: chunk.language or chunk.expected_language or "" for index, chunk in enumerate(chunks)}
        for language, group in groupby(sorted(languages, key=languages.__getitem__), key=languages.__getitem__):
            wanted = {index: chunks[index].audio for index in group if not cancelled(index)}
            heard = self._heard(wanted, language, options, cancelled)
            for index, document in heard.items():
                seconds = len(wanted[index]) / SAMPLE_RATE
                yield index, recognition_of(document, self.facts.version, seconds, language, options.word_timestamps)

    def _heard(
        self,
        audio: Mapping[int, Waveform],
        language: str,
        options: RecognitionOptions,
        cancelled: Callable[[int], bool],
    ) -> dict[int, bytes]:
        """What the program wrote for each; nothing if nobody waits for it any more."""
        if not audio:
            return {}
        values = {"model": options.model, "language": language, "task": options.task}
        with tempfile.TemporaryDirectory(prefix="whisper-farm-") as folder:
            files = {index: Path(folder) / f"{index}.wav" for index in audio}
            for index, file in files.items():
                _write(audio[index], file)
            argv = list(_filled(self.template, list(files.values()), values | {"output_dir": folder}))
            if not _run(argv, self.facts.version, lambda: all(map(cancelled, audio))):
                return {}
            return {index: _read(file.with_suffix(".json"), self.facts.version) for index, file in files.items()}


def _filled(template: Sequence[str], files: Sequence[Path], values: Mapping[str, str]) -> Iterator[str]:
    """The arguments; one whose value is not known is left out."""
    for argument in template:
        if argument == "{audio}":
            yield from map(str, files)
            continue
        for name, value in values.items():
            if f"{{{name}}}" in argument and not value:
                break
            argument = argument.replace(f"{{{name}}}", value)
        else:
            yield argument


def _run(argv: Sequence[str], name: str, unwanted: Callable[[], bool]) -> bool:
    """Run a program to its end; False if nobody waits for it any more. EngineError if it fails."""
    tied = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid())] if sys.platform == "linux" else []
    try:
        process = subprocess.Popen(
            [*tied, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise EngineUnavailable(f"{name} cannot be started: {error}.") from error
    said: deque[int] = deque(maxlen=_LAST_WORDS_BYTES)
    listening = threading.Thread(target=_listen, args=(process, said), daemon=True)
    listening.start()
    began = time.monotonic()
    try:
        while process.poll() is None:
            if unwanted():
                return False
            if time.monotonic() - began > LIMIT_SECONDS:
                raise EngineError(f"{name} was ended: it was not done after {LIMIT_SECONDS:g} s.")
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)
    finally:
        _end(process)
        listening.join(1.0)
    if process.returncode:
        words = bytes(said).decode(errors="replace").strip() or "it said nothing"
        raise EngineError(f"{name} ended with status {process.returncode}: {words}")
    return True


def _listen(process: subprocess.Popen[bytes], said: deque[int]) -> None:
    assert process.stderr is not None
    with process.stderr:
        while block := os.read(process.stderr.fileno(), 1 << 16):
            said.extend(block)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program with all that it started, and collect it."""
    with suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _write(audio: Waveform, file: Path) -> None:
    with wave.open(str(file), "wb") as out:
        out.setparams((1, 2, SAMPLE_RATE, 0, "NONE", "not compressed"))
        out.writeframes((np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes())


def _read(file: Path, name: str) -> bytes:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise EngineError(f"{name} wrote more than {MOST_BYTES >> 20} MB for one chunk.")
        return file.read_bytes()
    except OSError as error:
        raise EngineError(f"{name} wrote no {file.name} into {{output_dir}}; look at {SETTING}.") from error


def _template() -> list[str]:
    """The words of the command; EngineUnavailable if there is none, or no such program."""
    template = shlex.split(os.environ.get(SETTING, ""), posix=os.name != "nt")
    missing = [name for name in ("{audio}", "{output_dir}") if name not in " ".join(template)]
    if missing:
        raise EngineUnavailable(
            f"The engine command needs {SETTING}: a command that writes Whisper's JSON, with {' and '.join(missing)}."
        )
    program = shutil.which(template[0])
    if program is None:
        raise EngineUnavailable(f"There is no program {template[0]!r}, which {SETTING} names; install it.")
    return [program, *template[1:]]


def _load(options: RecognitionOptions, settings: EngineSettings, progress: Progress) -> Engine:
    template = _template()
    if options.model.startswith("-"):
        raise ModelUnavailable(f"{options.model!r} is no model: it would be an option of the program.")
    if options.task != "transcribe" and "{task}" not in " ".join(template):
        raise OptionUnsupported(f"{SETTING} has no {{task}}, so this engine cannot {options.task}.")
    name = Path(template[0]).name
    return AgainstSpeech(CommandEngine(EngineFacts("command", name, options.model, "", "cpu", "default"), template))


TRAITS = EngineTraits(
    name="command",
    load=_load,
    version=lambda: Path(_template()[0]).name,
    default_model=lambda device, task: "small",
    options=frozenset({"language", "task", "vad_filter", "word_timestamps"}),
    best_batch={"cpu": 8},
    slots=1,
    needs=frozenset({"programs", "network", "files"}),
)
