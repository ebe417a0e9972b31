"""Frames carry anything, in order, and notice at once when something else is in the pipe."""

from __future__ import annotations

import asyncio
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_farm.worker import frames
from whisper_farm.worker.frames import Frame, FrameError, pack, read_frame, receive_frame, write_frame
from whisper_farm.worker.pipe import Cancel, from_frame, to_frame

any_frames = st.lists(st.builds(Frame, st.binary(max_size=200), st.binary(max_size=2000)), max_size=5)


@given(any_frames)
def test_frames_come_out_as_they_went_in(sent: list[Frame]) -> None:
    pipe = io.BytesIO()
    for frame in sent:
        write_frame(pipe, frame)
    pipe.seek(0)
    assert [read_frame(pipe) for _ in sent] == sent
    assert read_frame(pipe) is None


@given(any_frames.filter(bool), st.data())
def test_a_pipe_that_ends_in_the_middle_of_a_frame_has_ended(sent: list[Frame], data: st.DataObject) -> None:
    whole = b"".join(map(pack, sent))
    cut = whole[: data.draw(st.integers(len(whole) - len(pack(sent[-1])), len(whole) - 1))]

    async def received() -> list[Frame | None]:
        stream = asyncio.StreamReader()
        stream.feed_data(cut)
        stream.feed_eof()
        return [await receive_frame(stream) for _ in sent]

    pipe = io.BytesIO(cut)
    assert [read_frame(pipe) for _ in sent] == [*sent[:-1], None] == asyncio.run(received())


def test_a_print_in_the_pipe_is_an_error_and_no_length() -> None:
    with pytest.raises(FrameError, match="Loading"):
        read_frame(io.BytesIO(b"Loading the model, please wait\n"))


def test_frames_longer_than_allowed_are_neither_sent_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    long = pack(Frame(b"{}", bytes(1001)))
    monkeypatch.setattr(frames, "MAX_BODY_BYTES", 1000)
    with pytest.raises(FrameError, match="1001"):
        pack(Frame(b"{}", bytes(1001)))
    with pytest.raises(FrameError, match="1001"):
        read_frame(io.BytesIO(long))


def test_only_our_own_messages_are_understood() -> None:
    assert from_frame(to_frame(Cancel(batch=1, index=2))) == Cancel(batch=1, index=2)
    for stranger in (b"", b"[]", b'{"kind": "unheard of"}', b'{"kind": "cancel", "batch": 1}'):
        with pytest.raises(FrameError):
            from_frame(Frame(stranger))
