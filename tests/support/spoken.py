"""Transcripts for the tests of this room: small ones by hand, and strategies for any and for nasty ones."""

from __future__ import annotations

from hypothesis import strategies as st

from whisper_farm.transcript.transcript import Coverage, Maker, MissingStretch, Segment, Transcript, Word

MAKER = Maker("faster-whisper", "1.2.1", "small", "5d8c3a", ("cuda:0 float16",), ("attic", "cellar"))
NASTY = (
    "-->",
    "--->",
    "00:00:01,000 --> 00:00:02,000",
    "\n\n",
    "\r\n",
    "\u2028",
    "\x85",
    "...and then",
    "<i>",
    "x < y > z",
    "Q&A &amp; &lt;b&gt; &copy",
    "NOTE",
    "WEBVTT",
    "STYLE",
    "7",
    "Привет, мир",
    "안녕하세요",
    "吾輩は猫である",
    "שלום",
    "👩‍👩‍👧 🎉",
    "\ufeff",
    "a\tb",
)

seconds = st.floats(0, 400_000)
texts = st.lists(
    st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=5
).map(" ".join)
scores = st.none() | st.floats(-1e6, 1e6)


def transcript_of(*segments: Segment, duration: float = 3600.0) -> Transcript:
    """A complete transcript of these segments."""
    return Transcript(segments, "en", duration, "transcribe", MAKER, Coverage(duration, duration, 1))


@st.composite
def words(draw: st.DrawFn, start: float, end: float) -> tuple[Word, ...]:
    """Words in order of time between two moments."""
    times = sorted(draw(st.lists(st.floats(start, end), min_size=0, max_size=8)))
    pairs = zip(times[::2], times[1::2], strict=False)
    return tuple(Word(a, b, " " + draw(texts), draw(st.none() | st.floats(0, 1))) for a, b in pairs)


@st.composite
def segments(draw: st.DrawFn) -> tuple[Segment, ...]:
    """Segments in order of time."""
    times = sorted(draw(st.lists(seconds, max_size=10)))
    return tuple(
        Segment(a, b, draw(texts), draw(words(a, b)), draw(scores), draw(scores), draw(scores), draw(scores))
        for a, b in zip(times[::2], times[1::2], strict=False)
    )


names = st.text(max_size=20)
makers = st.builds(
    Maker,
    engine=names,
    version=names,
    model=names,
    revision=names,
    devices=st.lists(names, max_size=3).map(tuple),
    workers=st.lists(names, max_size=3).map(tuple),
)
coverages = st.builds(
    Coverage,
    duration=seconds,
    covered=seconds,
    chunks=st.integers(0, 10**6),
    missing=st.lists(st.builds(MissingStretch, seconds, seconds, texts), max_size=3).map(tuple),
    damaged_packets=st.integers(0, 10**9),
)
transcripts = st.builds(
    Transcript,
    segments=segments(),
    language=st.sampled_from(["en", "de", "yue"]),
    duration=seconds,
    task=st.sampled_from(["transcribe", "translate"]),
    maker=makers,
    coverage=coverages,
)
