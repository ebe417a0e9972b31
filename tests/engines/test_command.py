"""Any program as a recogniser: a real one hears a real voice, and no program can do more harm than to fail."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.processes import all_end
from support.recordings import decoded, silence

from bench.error_rate import word_error_rate
from examples.weights import tiny_en
from whisper_farm.engines import command, whisper_json
from whisper_farm.engines.engine import ChunkAudio, Engine, EngineSettings, Recognition
from whisper_farm.engines.registry import check_options, engine_traits, library_version
from whisper_farm.errors import EngineError, EngineUnavailable, ModelUnavailable, OptionUnsupported
from whisper_farm.transcript.document import from_json
from whisper_farm.transcript.options import RecognitionOptions

SPEECH = Path(__file__).parents[2] / "examples" / "inaugural.flac"
KNOWN = SPEECH.with_suffix(".txt").read_text(encoding="utf-8")
PROGRAM = shutil.which("whisper-ctranslate2", path=str(Path(sys.executable).parent))
REAL = (
    "{audio} --model_directory={model} --output_dir={output_dir} --output_format=json --language={language} "
    "--task={task} --word_timestamps=True --device=cpu --threads=2 --verbose=False"
)
WISH = RecognitionOptions(engine="command", model="tiny.en", language="en", vad_filter=False)
Program = Callable[[str], Engine]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """The engine with a program of these lines of Python; `out` is the file to be written, `said` what it was told."""

    def of(lines: str) -> Engine:
        script = tmp_path / "program.py"
        script.write_text(
            "import json, os, pathlib, subprocess, sys, time\n"
            "said = sys.argv[1:]\n"
            "out = pathlib.Path(said[-1]) / (pathlib.Path(said[0]).stem + '.json')\n"
            f"{lines}\n",
            encoding="utf-8",
        )
        words = [sys.executable, str(script), "{audio}", "--language={language}", "{model}", "{output_dir}"]
        monkeypatch.setenv("WHISPER_COMMAND", shlex.join(words))
        return engine_traits("command").load(WISH, EngineSettings(), lambda _: None)

    return of


def heard(engine: Engine, *chunks: ChunkAudio, cancelled: Callable[[int], bool] = lambda _: False) -> list[Recognition]:
    found = dict(engine.recognise(chunks or [ChunkAudio(silence(2))], WISH, cancelled))
    return [found[index] for index in sorted(found)]


def said(recognition: Recognition) -> str:
    return "".join(segment.text for segment in recognition.segments)


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="the program whisper-ctranslate2 is not installed")
def test_a_real_program_hears_a_real_voice_behind_the_whole_farm(tmp_path: Path) -> None:
    run = subprocess.run(
        [
            *(sys.executable, "-m", "whisper_farm", "transcribe", str(SPEECH), "--engine", "command"),
            *("--model", str(tiny_en()), "-o", str(tmp_path), "-f", "json", "--quiet", "--language", "en"),
        ],
        env={**os.environ, "WHISPER_FARM_DATA": str(tmp_path / "data"), "WHISPER_COMMAND": f"{PROGRAM} {REAL}"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert (run.returncode, run.stderr) == (0, "")
    transcript = from_json(json.loads((tmp_path / "inaugural.json").read_text(encoding="utf-8")))
    assert word_error_rate(KNOWN, transcript.text) == 0
    assert (transcript.maker.engine, transcript.maker.version) == ("command", "whisper-ctranslate2")
    words = [word for segment in transcript.segments for word in segment.words]
    assert len(words) == len(transcript.text.split())
    assert all(0 <= word.start <= word.end <= transcript.duration for word in words)


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="the program whisper-ctranslate2 is not installed")
def test_a_batch_is_one_call_and_each_chunk_has_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHISPER_COMMAND", f"{PROGRAM} {REAL}")
    speech = decoded(SPEECH.read_bytes())
    wish = RecognitionOptions(engine="command", model=str(tiny_en()))
    engine = engine_traits("command").load(wish, EngineSettings(), lambda _: None)
    half = len(speech) // 2
    chunks = [ChunkAudio(speech), ChunkAudio(silence(2)), ChunkAudio(speech[:half], expected_language="en")]
    found = dict(engine.recognise(chunks, wish, lambda _: False))
    assert sorted(found) == [0, 1, 2]
    assert word_error_rate(KNOWN, said(found[0])) == 0
    assert found[0].segments[-1].end <= len(speech) / 16_000
    assert found[0].language == "en"
    assert said(found[2]).split()[:4] == said(found[0]).split()[:4]
    assert found[2].segments[-1].end <= half / 16_000


def test_a_program_is_told_the_model_and_the_language_where_it_is_known(program: Program) -> None:
    engine = program("out.write_text(json.dumps({'text': ' '.join(said[1:-1])}))")
    assert [said(one) for one in heard(engine, ChunkAudio(silence(1)))] == [" tiny.en"]
    assert [said(one) for one in heard(engine, ChunkAudio(silence(1), "de"))] == [" --language=de tiny.en"]
    (german,) = heard(engine, ChunkAudio(silence(1), None, "de"))
    assert (said(german), german.language) == (" --language=de tiny.en", "de")


def test_words_have_the_marks_of_the_text_and_times_lie_in_the_chunk(program: Program, tmp_path: Path) -> None:
    document = {
        "language": "english",
        "segments": [
            {
                "start": -1, "end": 99, "text": "Yes, $20 it’s!", "avg_logprob": float("nan"), "temperature": 0,
                "words": [
                    {"word": "Yes", "start": -5, "end": 0.5, "score": 0.9}, {"word": "20", "start": 0.4, "end": 0.3},
                    {"word": " it’s", "start": float("inf"), "end": float("nan"), "probability": float("nan")},
                ],
            },
            {"start": 1, "end": 2, "text": " No times.", "words": [{"word": "No"}, {"word": "times."}]},
            {"start": 1, "end": 2, "text": "  "},
        ],
    }  # fmt: skip
    (tmp_path / "heard").write_text(json.dumps(document), encoding="utf-8")
    (one,) = heard(program(f"os.replace({str(tmp_path / 'heard')!r}, out)"))
    first, second = one.segments
    assert (first.start, first.end, first.text, first.avg_logprob, first.temperature) == (
        0,
        2,
        " Yes, $20 it’s!",
        None,
        0,
    )
    assert [(word.text, word.start, word.end, word.probability) for word in first.words] == [
        (" Yes,", 0, 0.5, 0.9), (" $20", 0.5, 0.5, None), (" it’s!", 2, 2, None)
    ]  # fmt: skip
    assert (second.text, second.words) == (" No times.", ())


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("out.write_text('no json')", "not Whisper's JSON"),
        ("out.write_text('[1]')", "not Whisper's JSON"),
        ("out.write_text(json.dumps({'segments': [{'start': 'x', 'end': 1, 'text': ''}]}))", r"segments\.0\.start"),
        ("out.write_bytes(b'\\xff\\xfe')", "not Whisper's JSON"),
        ("out.write_text('[' * 100_000)", "not Whisper's JSON"),
        ("out.write_text('x' * 2000)", "more than 0 MB"),
        ("pass", r"wrote no 0\.json"),
        ("out.mkdir()", r"wrote no 0\.json"),
        ("sys.exit('the model is broken')", "ended with status 1: the model is broken"),
        ("sys.stderr.write('x' * 10_000_000); sys.exit(3)", "status 3: x{2000}$"),
        ("assert sys.stdin.read() == ''; sys.exit(4)", "status 4: it said nothing"),
        ("os.kill(os.getpid(), 9)", "status -9"),
    ],
)
def test_a_program_that_writes_rubbish_or_fails_is_named_with_its_last_words(
    lines: str, words: str, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "MOST_BYTES", 1000 if "2000)" in lines else whisper_json.MOST_BYTES)
    with pytest.raises(EngineError, match=words):
        heard(program(lines))


def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_longer_once_it_is_there(_: int) -> bool:
        if pids(tmp_path):
            monkeypatch.setattr(command, "LIMIT_SECONDS", 0.0)
        return False

    with pytest.raises(EngineError, match="not done after 0 s"):
        heard(program(forking(tmp_path)), ChunkAudio(silence(1)), cancelled=no_longer_once_it_is_there)
    gone(tmp_path)


def test_a_program_that_nobody_waits_for_any_more_is_ended(program: Program, tmp_path: Path) -> None:
    engine = program(forking(tmp_path))
    assert heard(engine, ChunkAudio(silence(1)), ChunkAudio(silence(1)), cancelled=lambda _: pids(tmp_path) != []) == []
    gone(tmp_path)
    assert heard(engine, ChunkAudio(silence(1)), cancelled=lambda _: True) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only the kernel of Linux ends a child with its parent")
def test_a_program_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
    words = [sys.executable, "-c", program, str(tmp_path / "pid1"), "{audio}", "{output_dir}"]
    lines = (
        f"from whisper_farm.engines import command\nimport os, numpy\ncommand._run({words!r}, 'sleeper', lambda: False)"
    )
    with subprocess.Popen([sys.executable, "-c", lines]) as parent:
        while not pids(tmp_path):
            time.sleep(0.05)
        parent.kill()
    gone(tmp_path)


def forking(place: Path) -> str:
    """A program that starts another, writes down the ids of both, and never ends."""
    return (
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(place / 'new')!r}).write_text(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.replace({str(place / 'new')!r}, {str(place / 'pid1')!r})\n"
        "time.sleep(600)"
    )


def pids(place: Path) -> list[int]:
    try:
        return [int(word) for word in (place / "pid1").read_text(encoding="utf-8").split()]
    except FileNotFoundError:
        return []


def gone(place: Path) -> None:
    found = pids(place)
    assert found
    all_end(found)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("", r"needs WHISPER_COMMAND.*\{audio\} and \{output_dir\}"),
        ("whisper {audio}", r"with \{output_dir\}"),
        ("no-such-program {audio} {output_dir}", "no program 'no-such-program'"),
    ],
)
def test_a_command_that_is_missing_or_lacks_a_place_is_named(
    setting: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHISPER_COMMAND", setting)
    with pytest.raises(EngineUnavailable, match=words):
        library_version(engine_traits("command"))


def test_what_strangers_choose_is_no_option_of_the_program(program: Program) -> None:
    program("pass")
    traits = engine_traits("command")
    with pytest.raises(ModelUnavailable, match="no model"):
        traits.load(WISH.model_copy(update={"model": "--output_dir=/etc"}), EngineSettings(), lambda _: None)
    with pytest.raises(OptionUnsupported, match="cannot translate"):
        traits.load(WISH.model_copy(update={"task": "translate"}), EngineSettings(), lambda _: None)
    with pytest.raises(OptionUnsupported, match="initial_prompt"):
        check_options(WISH.model_copy(update={"initial_prompt": "Ada"}))


def test_chunks_are_written_whole_and_loud_ones_are_not_turned_over(tmp_path: Path) -> None:
    audio = np.array([0, 0.5, -0.5, 1.5, -1.5], np.float32)
    command._write(audio, tmp_path / "a.wav")
    assert np.allclose(decoded((tmp_path / "a.wav").read_bytes()), [0, 0.5, -0.5, 1, -1], atol=1e-4)
