"""What the queue leaves to chance is random indeed, and stays within its bounds."""

from __future__ import annotations

from whisper_farm.leases.rules import RANDOM


def test_jitter_is_never_the_same_and_takes_up_to_half_of_a_wait_away() -> None:
    seen = {RANDOM.jitter() for _ in range(1000)}
    assert min(seen) >= 0.5
    assert max(seen) < 1
    assert len(seen) > 900
    assert max(seen) - min(seen) > 0.4, "all of the range is used"
