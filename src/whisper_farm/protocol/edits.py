"""The calls about edits: what a client asks to be changed in a transcript, and how the text has changed since."""

from __future__ import annotations

import itertools
from typing import Annotated, Self

from pydantic import Field, model_validator

from whisper_farm.protocol.wire import Answer, Id, Items, Name, Request, Seconds
from whisper_farm.transcript.transcript import Segment

MOST_TEXT = 10_000
"""Letters of one segment."""
EditNumber = Annotated[int, Field(ge=0, le=1_000_000)]
SpeakerName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$")]


class NewSegment(Request):
    """A segment as somebody wants it; its words are found by comparing its text with what lay there."""

    start: Seconds
    end: Seconds
    text: Annotated[str, Field(min_length=1, max_length=MOST_TEXT, pattern=r"\S")]
    speaker: SpeakerName | None = None
    struck: bool = False


class NewPatch(Request):
    """What lies in `[start, end)` becomes these segments; null puts back the machine's text.

    With `speakers` only what they say is changed, null among them being those without a name: two may speak at once.
    """

    start: Seconds
    end: Seconds
    speakers: Annotated[tuple[SpeakerName | None, ...], Field(max_length=100)] | None = None
    segments: tuple[NewSegment, ...] | None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        reached = self.start
        for segment in self.segments or ():
            if not reached <= segment.start <= segment.end <= self.end:
                raise ValueError("segments lie in the patch, in order of their beginnings")
            reached = segment.start
        if self.end <= self.start:
            raise ValueError("a patch has a length")
        return self


class NewRename(Request):
    """Every segment of this speaker gets another name; null means nobody."""

    speaker: SpeakerName | None
    name: SpeakerName | None


class NewReplacement(Request):
    """A text is replaced wherever it stands, whatever its capitals."""

    text: Annotated[str, Field(min_length=1, max_length=1000, pattern=r"\S")]
    by: Annotated[str, Field(max_length=1000)]


class Adoption(Request):
    """What another transcription says in `[start, end)` replaces what lies there; its speakers are those of before.

    With `keep_edits` what people have written stays as it is.
    """

    transcription_id: Id
    start: Seconds
    end: Seconds
    keep_edits: bool = False


class NewEdit(Request):
    """One change, of exactly one kind. It is refused if a passage it changes is not as it was at `based_on`."""

    based_on: EditNumber
    patches: Annotated[Items[NewPatch], Field(max_length=500)] = ()
    rename: NewRename | None = None
    replace: NewReplacement | None = None
    adopt: Adoption | None = None
    reverse: EditNumber | None = None
    """This entry does not count any more."""
    back_to: EditNumber | None = None
    """The text becomes what it was at this number."""

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        for one, other in itertools.pairwise(self.patches):
            shared = one.speakers is None or other.speakers is None or {*one.speakers} & {*other.speakers}
            if other.start < (one.end if shared else one.start):
                raise ValueError("patches are in order and apart from each other")
        kinds = [self.rename, self.replace, self.adopt, self.reverse, self.back_to]
        if bool(self.patches) + sum(kind is not None for kind in kinds) != 1:
            raise ValueError("an edit is of exactly one kind")
        return self


class VersionName(Request):
    """The name of a version; null takes it away."""

    name: Name | None


class SplicedSegments(Answer):
    """From the segment `at` of the earlier text on, `removed` segments became these."""

    at: int
    removed: int
    segments: tuple[Segment, ...]


class VersionView(Answer):
    """A number that has a name."""

    number: int
    name: Name
    author: Name
    at: float


class EditsView(Answer):
    """How the text has changed: all `changes` of the earlier text together give the newest, of `number`.

    The segments are those of `?struck=true`. `undo` and `redo` are the entries of the caller to reverse next.
    """

    number: int
    changes: tuple[SplicedSegments, ...]
    undo: int | None = None
    redo: int | None = None
    versions: tuple[VersionView, ...] = ()
