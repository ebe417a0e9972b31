"""What is known of models by their names."""

from __future__ import annotations

from whisper_farm.models import REPOSITORIES, can_translate


def test_models_that_were_not_trained_to_translate_are_known_by_name_and_repository() -> None:
    able = {name for name in REPOSITORIES if can_translate(name)}
    assert able == {"tiny", "base", "small", "medium", "large", "large-v1", "large-v2", "large-v3"}
    assert not can_translate(REPOSITORIES["turbo"])
    assert can_translate("somebody/whisper-turbo-that-translates")
