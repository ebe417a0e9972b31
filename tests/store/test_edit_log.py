"""The log of edits: numbered without holes, kept whole, told of, bounded, gone with its transcription."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from support.hand_farm import Farm

from whisper_farm.errors import NotFound, QuotaReached
from whisper_farm.store import edits
from whisper_farm.store.database import Database
from whisper_farm.store.edits import add_edit, edits_after, is_edited, name_version, versions_of
from whisper_farm.transcript.edits import Edit, Patch, Rename
from whisper_farm.transcript.transcript import Segment, Word

PATCH = Patch(
    1.5, 4.25, (Segment(1.5, 4.25, " Größe 日本", (Word(1.5, 4.25, " Größe 日本", 0.5),), speaker="Ann", struck=True),)
)
LOG = [
    Edit(1, "ann", (PATCH, Patch(5, 6, None), Patch(7, 8, ()))),
    Edit(2, "bob", rename=Rename(None, "Ann")),
    Edit(3, "ann", reverses=(1, 2)),
]


def test_entries_come_back_as_they_were_and_numbers_have_no_holes(database: Database) -> None:
    farm = Farm(database)
    row = farm.submit()
    assert not database.read(lambda tx: is_edited(tx, row.id))
    for edit in LOG:
        assert farm.write(lambda tx, edit=edit: add_edit(tx, row, edit)) is True
    assert farm.write(lambda tx: add_edit(tx, row, LOG[2])) is False
    assert farm.write(lambda tx: add_edit(tx, row, Edit(5, "ann"))) is False
    assert database.read(lambda tx: edits_after(tx, row.id)) == LOG
    assert database.read(lambda tx: edits_after(tx, row.id, 2)) == LOG[2:]
    assert database.read(lambda tx: is_edited(tx, row.id))
    told = [(event["number"], event["author"]) for event in farm.events("transcription_edited")]
    assert told == [(1, "ann"), (2, "bob"), (3, "ann")]


def test_versions_are_names_for_numbers(database: Database) -> None:
    farm = Farm(database)
    row = farm.submit()
    farm.write(lambda tx: add_edit(tx, row, Edit(1, "ann")))
    farm.write(lambda tx: add_edit(tx, row, Edit(2, "bob")))
    farm.write(lambda tx: name_version(tx, row, 2, "sent to print"))
    assert [(one.number, one.name, one.author) for one in database.read(lambda tx: versions_of(tx, row.id))] == [
        (2, "sent to print", "bob")
    ]
    farm.write(lambda tx: name_version(tx, row, 2, None))
    assert database.read(lambda tx: versions_of(tx, row.id)) == []
    for number in (0, 3):
        with pytest.raises(NotFound):
            farm.write(lambda tx, number=number: name_version(tx, row, number, "none"))


def test_a_transcription_has_so_many_edits_and_letters_of_them_and_no_more(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm = Farm(database)
    row = farm.submit()
    monkeypatch.setattr(edits, "MOST_EDITS", 2)
    monkeypatch.setattr(edits, "MOST_LETTERS", 300)
    long = Edit(1, "ann", (Patch(0, 1, (Segment(0, 1, " x" * 150),)),))
    with pytest.raises(QuotaReached):
        farm.write(lambda tx: add_edit(tx, row, long))
    farm.write(lambda tx: add_edit(tx, row, Edit(1, "ann")))
    farm.write(lambda tx: add_edit(tx, row, Edit(2, "ann")))
    with pytest.raises(QuotaReached):
        farm.write(lambda tx: add_edit(tx, row, Edit(3, "ann")))


def test_edits_go_with_their_transcription(database: Database) -> None:
    farm = Farm(database)
    row = farm.submit()
    farm.write(lambda tx: add_edit(tx, row, LOG[0]))
    farm.cancel(row.id)
    farm.delete(row.id)
    assert database.read(lambda tx: tx.connection.execute(text("SELECT count(*) FROM edits")).scalar()) == 0
