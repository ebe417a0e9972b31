"""Which engines there are, what this machine is divided into for them, and which model suits it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from whisper_farm.engines import devices, registry
from whisper_farm.engines.devices import Division
from whisper_farm.engines.engine import Device
from whisper_farm.engines.registry import check_options, engine_names, engine_traits, library_version
from whisper_farm.errors import EngineUnavailable, OptionUnsupported
from whisper_farm.transcript.options import RecognitionOptions

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def fresh() -> Iterator[None]:
    """Entry points are looked up again, before and after."""
    registry._installed.cache_clear()
    yield
    registry._installed.cache_clear()


@pytest.mark.parametrize(
    ("engine", "device", "slots", "cores", "batch", "expected"),
    [
        ("faster-whisper", "cpu", None, 2, None, Division(2, 1, 4)),
        ("faster-whisper", "cpu", None, 1, None, Division(1, 1, 4)),
        ("faster-whisper", "cpu", None, 64, None, Division(8, 8, 4)),
        ("faster-whisper", "cpu", 3, 8, 1, Division(3, 2, 1)),
        ("faster-whisper", "cuda", None, 8, None, Division(1, 8, 16)),
        ("tones", "cpu", 64, 2, None, Division(64, 1, 1)),
        ("command", "cpu", None, 16, None, Division(1, 16, 8)),
        ("transcribe-cpp", "cpu", None, 16, None, Division(1, 16, 1)),
    ],
)
def test_a_machine_is_divided_by_engine_device_and_cores(
    engine: str, device: Device, slots: int | None, cores: int, batch: int | None, expected: Division
) -> None:
    assert devices.division_for(engine_traits(engine), device, slots, cores, batch) == expected


def test_an_engine_that_shares_no_model_gets_a_process_for_every_core() -> None:
    alone = replace(engine_traits("tones"), shares_model=False)
    assert devices.division_for(alone, "cpu", None, 16) == Division(16, 1, 1)


def test_a_gpu_has_a_larger_model_and_one_that_can_translate_when_it_must() -> None:
    default = engine_traits("faster-whisper").default_model
    assert default("cpu", "transcribe") == default("cpu", "translate") == "small"
    assert default("cuda", "transcribe") == "turbo"
    assert default("cuda", "translate") == "large-v3"


def test_a_gpu_is_taken_when_it_is_there_and_missed_when_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpus", lambda: 1)
    assert [devices.device_for(wanted) for wanted in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]
    assert devices.device_of(engine_traits("tones"), "auto") == "cpu"
    monkeypatch.setattr(devices, "gpus", lambda: 0)
    assert [devices.device_for(wanted) for wanted in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(EngineUnavailable, match="--device cpu"):
        devices.device_for("cuda")


def test_every_engine_works_here_or_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in ("WHISPER_COMMAND", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(setting, raising=False)
    for name in engine_names():
        try:
            assert library_version(engine_traits(name))
        except EngineUnavailable as need:
            assert name in ("command", "openai")
            assert re.search("needs [A-Z_]+", need.message)  # noqa: PT017


def test_a_library_that_cannot_be_imported_is_named() -> None:
    def broken() -> str:
        raise ImportError("libcudart.so.12: cannot open shared object file")

    with pytest.raises(EngineUnavailable, match=r"engine tones does not work here: libcudart"):
        library_version(replace(engine_traits("tones"), version=broken))


def test_an_unknown_engine_is_answered_with_the_nearest() -> None:
    with pytest.raises(EngineUnavailable, match="did you mean 'faster-whisper'"):
        engine_traits("faster_whisper")
    with pytest.raises(EngineUnavailable, match="there are command, faster-whisper, openai, tones, transcribe-cpp"):
        engine_traits("zzz")


def test_an_engine_is_an_entry_point_of_this_package_or_of_another() -> None:
    own = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sorted([*own["entry-points"]["whisper_farm.engines"], "tones"]) == list(engine_names())


def test_the_page_of_engines_tells_of_each_and_of_what_it_needs() -> None:
    page = (PROJECT / "docs" / "ENGINES.md").read_text(encoding="utf-8")
    for name in set(engine_names()) - {"tones"}:
        assert f"\n| `{name}` |" in page


@pytest.mark.parametrize(
    ("value", "words"), [("no.such.module:TRAITS", "cannot be loaded"), ("json:dumps", "no EngineTraits")]
)
@pytest.mark.usefixtures("fresh")
def test_an_entry_point_that_leads_nowhere_is_named(value: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = EntryPoint(name="lost", value=value, group=registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [found])
    with pytest.raises(EngineUnavailable, match=words):
        engine_traits("lost")


def test_looking_an_engine_up_imports_no_recogniser() -> None:
    heavy = (
        "{'ctranslate2', 'faster_whisper', 'huggingface_hub', 'av', 'torch', 'httpx', 'transcribe_cpp', 'onnxruntime'}"
    )
    program = (
        "import sys; from whisper_farm.engines.registry import engine_names, engine_traits\n"
        f"[engine_traits(name) for name in engine_names()]; print({heavy} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"task": "translate"}, "tones cannot translate"),
        ({"beam_size": 7}, "tones has no option --beam_size"),
        ({"initial_prompt": "Ada"}, "tones has no option --initial_prompt"),
    ],
)
def test_what_an_engine_has_not_is_refused(wanted: dict[str, object], words: str) -> None:
    options = {"engine": "tones", "model": "instant", "language": "de", "word_timestamps": False}
    check_options(RecognitionOptions.model_validate(options))
    with pytest.raises(OptionUnsupported, match=words):
        check_options(RecognitionOptions.model_validate(options | wanted))


def test_a_model_or_language_that_an_engine_surely_has_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = replace(engine_traits("tones"), models=("instant",), languages=("en",))
    monkeypatch.setattr(registry, "engine_traits", lambda name: narrow)
    check_options(RecognitionOptions(engine="tones", model="instant", language="en"))
    with pytest.raises(OptionUnsupported, match="did you mean 'instant'"):
        check_options(RecognitionOptions(engine="tones", model="instnat"))
    with pytest.raises(OptionUnsupported, match="language 'fr'"):
        check_options(RecognitionOptions(engine="tones", model="instant", language="fr"))
