"""The pipe carries any message, in order, and shows at once when something else is in it."""

from __future__ import annotations

import asyncio
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_farm.worker import pipe
from whisper_farm.worker.pipe import Cancel, PipeError, PipeMessage, Refused, packed, read_message, receive_message

Sent = tuple[PipeMessage, bytes]
any_numbers = st.integers(-(1 << 60), 1 << 60)
any_messages = st.builds(Cancel, batch=any_numbers, index=any_numbers) | st.builds(
    Refused, batch=any_numbers, index=any_numbers, code=st.text(), message=st.text(max_size=200)
)
any_traffic = st.lists(st.tuples(any_messages, st.binary(max_size=2000)), max_size=5)


@given(any_traffic)
def test_messages_come_out_as_they_went_in(sent: list[Sent]) -> None:
    stream = io.BytesIO(b"".join(packed(*each) for each in sent))
    assert [read_message(stream) for _ in sent] == sent
    assert read_message(stream) is None


@given(any_traffic.filter(bool), st.data())
def test_a_pipe_that_ends_in_the_middle_of_a_message_has_ended(sent: list[Sent], data: st.DataObject) -> None:
    whole = b"".join(packed(*each) for each in sent)
    cut = whole[: data.draw(st.integers(len(whole) - len(packed(*sent[-1])), len(whole) - 1))]

    async def received() -> list[Sent | None]:
        stream = asyncio.StreamReader()
        stream.feed_data(cut)
        stream.feed_eof()
        return [await receive_message(stream) for _ in sent]

    stream = io.BytesIO(cut)
    assert [read_message(stream) for _ in sent] == [*sent[:-1], None] == asyncio.run(received())


def test_a_print_in_the_pipe_is_an_error_and_no_length() -> None:
    with pytest.raises(PipeError, match="Loading"):
        read_message(io.BytesIO(b"Loading the model, please wait\n"))


def test_messages_longer_than_allowed_are_neither_sent_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    long = packed(Cancel(batch=1, index=2), bytes(1001))
    monkeypatch.setattr(pipe, "MAX_BODY_BYTES", 1000)
    with pytest.raises(PipeError, match="1001"):
        packed(Cancel(batch=1, index=2), bytes(1001))
    with pytest.raises(PipeError, match="1001"):
        read_message(io.BytesIO(long))


@pytest.mark.parametrize("stranger", [b"", b"[]", b"Unheard {}", b"PipeMessage {}", b'Cancel {"batch": 1}', b"\xff {}"])
def test_only_our_own_messages_are_understood(stranger: bytes) -> None:
    frame = pipe._PREFIX.pack(pipe._MARK, len(stranger), 0) + stranger
    with pytest.raises(PipeError):
        read_message(io.BytesIO(frame))
