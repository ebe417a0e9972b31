"""What this machine is divided into, which model suits it, and which engines there are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from whisper_farm.engines import choose
from whisper_farm.engines.choose import Lanes
from whisper_farm.engines.registry import ENGINES, engine_kind
from whisper_farm.errors import EngineUnavailable


@pytest.mark.parametrize(
    ("engine", "device", "slots", "cores", "batch", "expected"),
    [
        ("faster-whisper", "cpu", None, 2, None, Lanes(2, 1, 4)),
        ("faster-whisper", "cpu", None, 1, None, Lanes(1, 1, 4)),
        ("faster-whisper", "cpu", None, 64, None, Lanes(8, 8, 4)),
        ("faster-whisper", "cpu", 3, 8, 1, Lanes(3, 2, 1)),
        ("faster-whisper", "cuda", None, 8, None, Lanes(1, 8, 16)),
        ("pocketsphinx", "cpu", None, 16, None, Lanes(16, 1, 1)),
        ("tones", "cpu", 64, 2, None, Lanes(64, 1, 1)),
    ],
)
def test_a_machine_is_divided_by_engine_device_and_cores(
    engine: str, device: choose.Device, slots: int | None, cores: int, batch: int | None, expected: Lanes
) -> None:
    assert choose.lanes_for(engine_kind(engine), device, slots, cores, batch) == expected


def test_a_gpu_has_a_larger_model_and_one_that_can_translate_when_it_must() -> None:
    assert choose.default_model("cpu") == choose.default_model("cpu", "translate") == "small"
    assert choose.default_model("cuda") == "turbo"
    assert choose.default_model("cuda", "translate") == "large-v3"


def test_a_gpu_is_taken_when_it_is_there_and_missed_when_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "gpus", lambda: 1)
    assert [choose.device_for(wanted) for wanted in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]
    monkeypatch.setattr(choose, "gpus", lambda: 0)
    assert [choose.device_for(wanted) for wanted in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(EngineUnavailable, match="--device cpu"):
        choose.device_for("cuda")


def test_every_engine_works_here() -> None:
    assert [choose.trouble_with(engine) for engine in ENGINES] == [None, None, None]


def test_an_unknown_engine_is_answered_with_the_nearest() -> None:
    with pytest.raises(EngineUnavailable, match="did you mean 'pocketsphinx'"):
        engine_kind("pocket-sphinx")
    with pytest.raises(EngineUnavailable, match="there are faster-whisper, pocketsphinx, tones"):
        engine_kind("zzz")


def test_the_catalog_imports_no_recogniser() -> None:
    heavy = "{'ctranslate2', 'faster_whisper', 'pocketsphinx', 'huggingface_hub', 'av', 'torch'}"
    program = f"import sys, whisper_farm.engines.choose; print({heavy} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.strip() == "set()"
    assert set(ENGINES) == {"faster-whisper", "pocketsphinx", "tones"}
