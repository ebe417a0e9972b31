"""A recogniser keeps the memory that it frees between batches, and hands back what loading its model left."""

from __future__ import annotations

import subprocess
import sys

import pytest

FREED_AND_KEPT = """
import numpy, psutil
from whisper_farm.worker.bounds import keep_memory

def grown_by_a_buffer():
    before = psutil.Process().memory_info().rss
    buffer = numpy.ones(16_000_000, numpy.float32)
    del buffer
    return (psutil.Process().memory_info().rss - before) // 1_000_000

before = grown_by_a_buffer()
keep_memory()
print(before, grown_by_a_buffer(), grown_by_a_buffer())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told")
def test_a_buffer_that_is_freed_is_kept_for_the_next_one_but_not_before_the_model_is_loaded() -> None:
    ended = subprocess.run([sys.executable, "-c", FREED_AND_KEPT], capture_output=True, text=True, timeout=60)
    while_loading, first, second = map(int, ended.stdout.split())
    assert while_loading < 16
    assert first > 48, "it was kept"
    assert second < 16, "it was used again"
