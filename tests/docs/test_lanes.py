"""The lists of slow and timed tests name what is there: a renamed file would fall out of its lane in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lanes import SLOW, TIMED

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("place", sorted({*SLOW, *TIMED}))
def test_a_lane_names_what_is_there(place: str) -> None:
    file, _, name = place.partition("::")
    assert (ROOT / file).exists()
    assert f"def {name}" in (ROOT / file).read_text() if name else True
