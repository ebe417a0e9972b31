"""Byte ranges and blob names: pure arithmetic, held against any input."""

from __future__ import annotations

import re
import string

from hypothesis import given, settings
from hypothesis import strategies as st

from whisper_farm.coordinator.answers.files import span_of
from whisper_farm.coordinator.transfers import chunk_key, owner_of_blob, result_key, source_key, transcript_key
from whisper_farm.store.blobs import KEY

anything = settings(max_examples=50)
sizes = st.integers(1, 10_000)
numbers = st.integers(0, 12_000)
headers = st.one_of(st.none(), st.text(max_size=40), st.text("0123456789-, x", max_size=20).map("bytes={}".format))


@anything
@given(sizes, numbers, numbers)
def test_a_closed_range_is_what_a_slice_is(size: int, first: int, last: int) -> None:
    data = bytes(n % 251 for n in range(size))
    span = span_of(f"bytes={first}-{last}", size)
    if first > last:
        assert span is not None
        assert not span.partial
    elif first >= size:
        assert span is None
    else:
        assert span is not None
        assert span.partial
        assert data[span.start : span.end] == data[first : last + 1]
        assert span.headers()["Content-Length"] == str(len(data[first : last + 1]))


@anything
@given(sizes, numbers)
def test_open_ranges_reach_to_an_end_of_the_file(size: int, number: int) -> None:
    data = bytes(n % 251 for n in range(size))
    tail, rest = span_of(f"bytes=-{number}", size), span_of(f"bytes={number}-", size)
    if number == 0:
        assert tail is None
    else:
        assert tail is not None
        assert data[tail.start : tail.end] == data[-number:]
    if number >= size:
        assert rest is None
    else:
        assert rest is not None
        assert data[rest.start : rest.end] == data[number:]


@anything
@given(headers, sizes)
def test_any_header_gives_a_part_of_the_file_or_none(header: str | None, size: int) -> None:
    span = span_of(header, size)
    if span is not None:
        assert 0 <= span.start < span.end <= size
        assert span.partial or span.length == size


ids = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=12, max_size=12)
tokens = st.text(string.ascii_letters + string.digits + "_-", min_size=16, max_size=64)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)


@anything
@given(ids, tokens, st.integers(0, 1_000_000), digests)
def test_names_say_whose_they_are_and_hide_the_token(made: str, token: str, position: int, digest: str) -> None:
    names = [chunk_key(made, token, position), result_key(made, position, token, digest), transcript_key(made)]
    for name in names:
        assert KEY.fullmatch(name)
        assert owner_of_blob(name) == made
    assert token not in names[0]
    assert KEY.fullmatch(source_key("0" * 16))
    assert owner_of_blob(source_key("0" * 16)) is None


@anything
@given(ids, tokens, tokens, st.integers(0, 1000))
def test_attempts_never_share_a_name(made: str, one: str, other: str, position: int) -> None:
    assert (chunk_key(made, one, position) == chunk_key(made, other, position)) == (one == other)
    assert re.search(rf"/{position}\.flac$", chunk_key(made, one, position))
