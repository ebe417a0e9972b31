"""Frames of one shape in, 16 kHz mono out, in blocks of a second: one FFmpeg filter graph a stretch.

The mix to one channel comes before the change of rate: half the work of the other order. Frames are
handed over singly but taken out a second at a time. It promises that the output from a sample on is the
same whether everything before it went through the graph or was passed over. So an interrupted chunk job
goes on exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.filter import Graph
from av.filter.context import FilterContext

from whisper_farm.audio.sound import SAMPLE_RATE, Waveform

_WARM_UP_SECONDS = 0.1
"""The filter remembers some 30 samples; after that its output no longer knows where it began."""


class Stretch:
    """A run of frames of one rate, format and layout, placed at output sample `base`.

    Output before sample `first` is not made. All channels are mixed, unless one is to be heard alone, or two apart.
    """

    def __init__(
        self,
        shape: AudioFrame,
        base: int,
        first: int,
        only_channel: int | None = None,
        apart: bool = False,
        rate: int = SAMPLE_RATE,
    ) -> None:
        """`apart`: two channels come out, as the columns of each block."""
        self._shape, self._base, self._only_channel, self._apart = shape, base, only_channel, apart
        self._rate, self._made_rate = shape.sample_rate, rate
        self.begin = self._input_start(first - base)
        """The input sample from which the graph must be fed."""
        self.count = 0
        """Input samples taken so far; set it where the decoder was sent straight to a place before `begin`."""
        self._source: FilterContext | None = None
        self._sink: FilterContext | None = None
        self._graph: Graph | None = None
        self._made = max(base, first)
        """Output is complete up to this sample."""
        self._skip = 0
        self._waiting = 0

    @property
    def end(self) -> int:
        """The output sample at which everything taken so far ends."""
        return self._base + round(self.count * self._made_rate / self._rate)

    @property
    def seconds(self) -> float:
        """The time at which everything taken so far ends."""
        return self._base / self._made_rate + self.count / self._rate

    def fits(self, frame: AudioFrame) -> bool:
        """Whether a frame has the shape of this stretch."""
        shape = self._shape
        return (
            frame.sample_rate == self._rate
            and frame.format.name == shape.format.name
            and frame.layout.name == shape.layout.name
        )

    def push(self, frame: AudioFrame) -> Iterator[Waveform]:
        """Take a frame; yields the blocks that are ready."""
        samples = frame.samples
        if self.count + samples > self.begin:
            source = self._source or self._build()
            frame.pts = None
            source.push(frame)
            self._waiting += samples
        self.count += samples
        if self._waiting >= self._rate:
            self._waiting = 0
            yield from self._pull()

    def finish(self) -> Iterator[Waveform]:
        """The rest, so that the output is exactly as long as the input was."""
        if self._source is None:
            return
        self._source.push(None)
        for block in self._pull():
            yield block[: max(0, self.end - self._made + len(block))]
        yield from silence(self._made, self.end, self._apart)

    def _input_start(self, output: int) -> int:
        """An input sample, early enough for `output`, that falls exactly on an output sample."""
        step = self._rate // math.gcd(self._rate, self._made_rate)
        warm = output * self._rate // self._made_rate - math.ceil(_WARM_UP_SECONDS * self._rate)
        return max(0, warm // step * step)

    def _build(self) -> FilterContext:
        count = self._shape.layout.nb_channels
        if self._apart:
            self._connect("pan", f"stereo|c0=c0|c1=c{min(1, count - 1)}")
        elif self._only_channel is not None and count > self._only_channel:
            self._connect("pan", f"mono|c0=c{self._only_channel}")
        else:
            try:
                self._connect("aformat", "sample_fmts=fltp:channel_layouts=mono")
            except av.FFmpegError:
                # FFmpeg knows no rule to mix this layout: every channel counts alike
                self._connect("pan", "mono|c0=" + "+".join(f"{1 / count:.9f}*c{channel}" for channel in range(count)))
        assert self._source is not None
        return self._source

    def _connect(self, mixer: str, mix: str) -> None:
        graph, shape = Graph(), self._shape
        chain = [
            graph.add(
                "abuffer",
                sample_rate=str(self._rate),
                sample_fmt=shape.format.name,
                channel_layout=shape.layout.name,
                time_base=f"1/{self._rate}",
            )
        ]
        steps = [
            ("atrim", f"start_sample={max(0, self.begin - self.count)}"),
            (mixer, mix),
            ("aresample", str(self._made_rate)),
            ("aformat", "sample_fmts=flt"),
            ("asetnsamples", f"n={self._made_rate}:p=0"),
        ]
        chain += [graph.add(name, arguments) for name, arguments in steps]
        chain.append(graph.add("abuffersink"))
        graph.link_nodes(*chain).configure()
        self._graph, self._source, self._sink = graph, chain[0], chain[-1]
        begins_at = self._base + self.begin * self._made_rate // self._rate
        self._skip = self._made - begins_at

    def _pull(self) -> Iterator[Waveform]:
        assert self._sink is not None
        while True:
            try:
                frame = self._sink.pull()
            except (BlockingIOError, EOFError):
                return
            assert isinstance(frame, AudioFrame)
            samples = np.frombuffer(memoryview(frame.planes[0]), np.float32, frame.samples * (1 + self._apart))
            block = (samples.reshape(-1, 2) if self._apart else samples)[self._skip :]
            self._skip = max(0, self._skip - frame.samples)
            if len(block):
                self._made += len(block)
                yield block


def silence(begin: int, end: int, apart: bool = False) -> Iterator[Waveform]:
    """Output samples `[begin, end)` of nothing."""
    for start in range(begin, end, SAMPLE_RATE):
        length = min(SAMPLE_RATE, end - start)
        yield np.zeros((length, 2) if apart else length, np.float32)
