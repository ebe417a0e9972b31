"""Everything said is found: in any script, by its owner alone, within bounds."""

from __future__ import annotations

from typing import Any

from whisper_farm.leases.transcriptions import NewTranscription, cancel, delete, submit
from whisper_farm.store.database import Database, Transaction
from whisper_farm.store.feeds import EpisodeRow, add_episode, add_feed
from whisper_farm.store.search import LOOKED_AT, OF_EACH, Passage, find_said, fold, note_said
from whisper_farm.transcript.options import RecognitionOptions

SAID = (
    "The harvest begins in September, says Dr. O'Connor.",
    "Die Straße führt über die Brücke nach Köln.",
    "Завтра мы поедем в Москву, и ёлка уже куплена.",
    "我们明天去北京开会。",
    "今日は東京タワーに行きました。",
    "พรุ่งนี้เราจะไปกรุงเทพ",
    "서울에서 회의가 있습니다.",
    "Version 3.14 costs 1e5 dollars, 2nd_place won 12abc at 10:30.",
    "O'Reilly & Söhne: \"quoted\" (a | b) <-> c:* said 'so' NEAR AND OR NOT *",
)


def spoken(tx: Transaction, said: tuple[str, ...] = SAID, owner: str = "ann", name: str = "talk.mp3") -> str:
    made = submit(tx, NewTranscription(owner, name, "blob:k", 1, RecognitionOptions()))
    note_said(tx, made, [Passage(n, n * 10.0, text) for n, text in enumerate(said)])
    return made


def hits(database: Database, words: str, owner: str | None = "ann", limit: int = 50) -> list[int]:
    return [one.position for one in database.read(lambda tx: find_said(tx, words, owner, limit))]


WANTED = {
    0: ["harvest", "HARV", "september harvest", '"begins in september"', "o'connor"],
    1: ["straße", "STRASSE", "brucke", "Brücke köln", "koln"],
    2: ["москв", "МОСКВУ", "елка", "ёлка"],
    3: ["北京", "开会", "明天 北京"],
    4: ["東京", "タワー"],
    5: ["กรุงเทพ"],
    6: ["서울", "회의가"],
    7: ["3.14", "1e5", "12abc", "2nd_place", "10:30"],
    8: ["söhne o'reilly", "near", '"a b c said so near"'],
}
STRANGE = [
    *("", " ", '"', '""', "*", "'", "';--", "a:b", "NEAR(", "(((", "<->", "& | !", "said:harvest", "\0", "folded :"),
    *("%s %(a)s :words", "-harvest", "^harvest", "\ud800", "{harvest}", "a\nb", '"' * 99, "x " * 500, "北" * 300),
]


def test_words_are_found_in_every_script(database: Database) -> None:
    database.write(spoken)
    found = {position: [hits(database, words) for words in wanted] for position, wanted in WANTED.items()}
    assert found == {position: [[position]] * len(wanted) for position, wanted in WANTED.items()}


def test_no_words_are_a_mistake_of_the_database(database: Database) -> None:
    database.write(spoken)
    assert all(len(hits(database, words)) <= 1 for words in STRANGE)


def test_all_words_must_be_there_and_only_the_end_of_a_word_may_be_missing(database: Database) -> None:
    database.write(spoken)
    assert hits(database, "harvest köln") == []
    assert hits(database, "arvest") == []
    assert hits(database, '"harv"') == []
    assert hits(database, '"in begins"') == []
    assert hits(database, "京北") == []


def test_each_owner_finds_the_own_words_alone(database: Database) -> None:
    database.write(spoken)
    database.write(lambda tx: spoken(tx, ("the harvest of bob",), owner="bob"))
    assert hits(database, "harvest", "bob") == [0]
    assert hits(database, "bob", "ann") == []
    assert {one.owner for one in database.read(lambda tx: find_said(tx, "harvest", None, 50))} == {"ann", "bob"}


def test_words_are_found_in_the_episodes_of_one_feed_alone(database: Database) -> None:
    asked: dict[str, Any] = {"words": "", "options": {}, "days": None, "count": 3, "keep_transcripts": False}
    mine = database.write(lambda tx: add_feed(tx, "ann", "https://example.org/feed", **asked)).id
    one, _ = database.write(spoken), database.write(spoken)
    database.write(lambda tx: add_episode(tx, mine, EpisodeRow(f"{mine}.1", "guid", "url", "title", one)))
    found = database.read(lambda tx: find_said(tx, "harvest", "ann", 50, mine))
    assert [hit.transcription_id for hit in found] == [one]
    assert len(hits(database, "harvest")) == 2


def test_what_is_forgotten_deleted_or_said_otherwise_now_is_not_found(database: Database) -> None:
    one = database.write(spoken)
    other = database.write(lambda tx: spoken(tx, ("a second harvest",)))
    database.write(lambda tx: note_said(tx, one, []))
    assert [hit.transcription_id for hit in database.read(lambda tx: find_said(tx, "harvest", "ann", 9))] == [other]
    database.write(lambda tx: note_said(tx, one, [Passage(0, 1.0, "the new text")]))
    assert hits(database, "new text") == [0]
    database.write(lambda tx: (cancel(tx, other), delete(tx, other)))
    assert hits(database, "harvest") == []


def test_a_stretch_is_said_anew_and_the_rest_stays(database: Database) -> None:
    made = database.write(lambda tx: spoken(tx, ("one", "two", "three", "four")))
    for _ in range(2):
        again = [Passage(1, 5.0, "second"), Passage(2, 6.0, "third")]
        database.write(lambda tx, again=again: note_said(tx, made, again, 1, 3))
    assert [hits(database, word) for word in ("one", "two", "three", "second", "third", "four")] == [
        *([0], [], [], [1], [2], [3])
    ]


def test_a_search_is_bounded_and_begins_with_what_is_newest(database: Database) -> None:
    old = database.write(lambda tx: spoken(tx, ("the word",) * 20))
    new = database.write(lambda tx: spoken(tx, ("the word",) * (LOOKED_AT + 7)))
    found = database.read(lambda tx: find_said(tx, "word", "ann", 50))
    assert [hit.transcription_id for hit in found] == [new] * OF_EACH
    database.write(lambda tx: note_said(tx, new, [Passage(n, n, "word") for n in range(9)]))
    found = database.read(lambda tx: find_said(tx, "word", "ann", 7))
    assert [(hit.transcription_id, hit.position) for hit in found] == [
        *((new, n) for n in range(OF_EACH)),
        *((old, n) for n in range(7 - OF_EACH)),
    ]


def test_folding_leaves_words_and_nothing_that_a_query_could_mean() -> None:
    assert fold("Straße, ÉCOLE—naïve_x (AND) *\"' Й") == "strasse ecole naive x and и"
    assert fold("东京2024年abc") == "东 京 2024 年 abc"
