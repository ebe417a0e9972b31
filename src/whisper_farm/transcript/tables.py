"""Transcripts for programs and spreadsheets: tables, whisper's JSON and whisperX's.

Promises: a table has a row a segment, times in milliseconds. No text of strangers is a formula in a spreadsheet.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

from whisper_farm.showing import cell

if TYPE_CHECKING:
    from whisper_farm.transcript.transcript import Transcript, Word


def tsv(transcript: Transcript) -> str:
    """Whisper's table."""
    rows = (f"{_milliseconds(one.start)}\t{_milliseconds(one.end)}\t{cell(one.text)}\n" for one in transcript.segments)
    return "start\tend\ttext\n" + "".join(rows)


def comma_separated(transcript: Transcript) -> str:
    """The same with speakers, as RFC 4180 has it."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(["start", "end", "speaker", "text"])
    for one in transcript.segments:
        times = _milliseconds(one.start), _milliseconds(one.end)
        table.writerow([*times, cell(one.speaker or ""), cell(one.text)])
    return out.getvalue()


def whisper_json(transcript: Transcript) -> str:
    """Everything, in the shape of openai/whisper."""
    from whisper_farm.transcript.document import to_json  # the list of formats is asked for where nothing heavy is

    return json.dumps(to_json(transcript))


def whisperx_json(transcript: Transcript) -> str:
    """Segments with words, and all words once more, as whisperX writes them."""
    segments: list[dict[str, object]] = []
    all_words: list[dict[str, object]] = []
    for one in transcript.segments:
        spoken: dict[str, object] = {} if one.speaker is None else {"speaker": one.speaker}
        words = [_aligned(word) | spoken for word in one.words]
        segments.append({**_times(one.start, one.end), "text": one.text, "words": words, **spoken})
        all_words += words
    return json.dumps({"segments": segments, "word_segments": all_words, "language": transcript.language})


def _aligned(word: Word) -> dict[str, object]:
    score = {} if word.probability is None else {"score": round(word.probability, 3)}
    return {"word": word.text.strip(), **_times(word.start, word.end), **score}


def _times(start: float, end: float) -> dict[str, float]:
    return {"start": round(start, 3), "end": round(end, 3)}


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
