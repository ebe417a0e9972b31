"""The lists of slow and timed tests name what is there: a renamed file would fall out of its lane in silence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.lanes import LONGEST, SLOW, TIMED, longest_first

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("place", sorted({*SLOW, *TIMED, *LONGEST}))
def test_a_lane_names_what_is_there(place: str) -> None:
    file, _, name = place.partition("::")
    assert (ROOT / file).exists()
    assert f"def {name}" in (ROOT / file).read_text() if name else True


def test_each_process_begins_with_some_of_the_longest_tests_and_all_are_run_once() -> None:
    names = [f"tests/web/test_{number}.py::test_it" for number in range(40)]
    names[7:7] = [f"{LONGEST[1]}[{number}]" for number in range(4)]
    names[30:30] = [f"{LONGEST[0]}::test_{number}" for number in range(3)]
    tests: list[Any] = [SimpleNamespace(nodeid=name) for name in names]
    dealt = [one.nodeid for one in longest_first(tests, 3)]
    assert sorted(dealt) == sorted(names)
    parts = [dealt[:15], dealt[15:31], dealt[31:]]
    assert [part[0] for part in parts] == [f"{LONGEST[0]}::test_{number}" for number in range(3)]
    assert [sum(name.startswith(LONGEST) for name in part) for part in parts] == [3, 2, 2]
