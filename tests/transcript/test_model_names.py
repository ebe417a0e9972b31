"""What is known of models by their names, and how long a name may be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from whisper_farm.models import REPOSITORIES, can_translate
from whisper_farm.protocol.jobs import TranscribeResult
from whisper_farm.protocol.worker import EngineOffer
from whisper_farm.settings import WorkerSettings
from whisper_farm.transcript.options import RecognitionOptions


def _offer(**named: tuple[str, ...]) -> EngineOffer:
    return EngineOffer.model_validate({"engine": "e", "version": "1", "device": "cpu", "batch": 1} | named)


def _result(model: str) -> TranscribeResult:
    facts = {"engine": "e", "engine_version": "1", "revision": "1", "device": "cpu", "compute_type": "int8"}
    return TranscribeResult.model_validate(
        {"segments": (), "language": "en", "model": model, "work_seconds": 0.0} | facts
    )


PLACES: dict[str, Callable[[str], object]] = {
    "options": lambda name: RecognitionOptions(model=name),
    "offered models": lambda name: _offer(models=(name,)),
    "loaded models": lambda name: _offer(loaded=(name,)),
    "results": _result,
    "a worker's settings": lambda name: WorkerSettings(models=(name,)),
}
"""Wherever a model is named. A name that one of them takes and another refuses would end whoever passes it on."""


@pytest.mark.parametrize("place", PLACES)
def test_a_models_name_has_the_same_bounds_wherever_it_stands(place: str) -> None:
    PLACES[place]("ü" * 255)
    for name in ("", "x" * 256):
        with pytest.raises(ValidationError):
            PLACES[place](name)


def test_models_that_were_not_trained_to_translate_are_known_by_name_and_repository() -> None:
    able = {name for name in REPOSITORIES if can_translate(name)}
    assert able == {"tiny", "base", "small", "medium", "large", "large-v1", "large-v2", "large-v3"}
    assert not can_translate(REPOSITORIES["turbo"])
    assert can_translate("somebody/whisper-turbo-that-translates")
