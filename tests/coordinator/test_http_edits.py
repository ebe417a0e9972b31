"""Edits over HTTP: everything that gives the text gives the edited one, conflicts lose nothing, others see nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from support.hand_worker import HandWorker, MakeWorker
from support.served_farm import ServedFarm, eventually, refused
from support.submitting import submit

from whisper_farm.protocol.jobs import ChunkResult
from whisper_farm.transcript.transcript import Segment, Word

Json = dict[str, Any]
EACH = 10.0


def said(start: float, text: str) -> Segment:
    """A segment of one-second words."""
    words = tuple(Word(start + n, start + n + 1, f" {word}", 0.3) for n, word in enumerate(text.split()))
    return Segment(start, start + len(words), f" {text}", words)


def transcribed(farm: ServedFarm, worker: HandWorker, *texts: str, client: httpx.Client | None = None) -> str:
    """A transcription that is done: the first segment of each text begins a second after its chunk."""
    made = submit(client or farm.admin)["id"]
    (cut,) = worker.claim(transcribe=0, chunk=1)
    worker.cut(cut, len(texts))
    worker.complete([worker.cut_done(cut, len(texts))])
    for claim in worker.claim(transcribe=len(texts)):
        segments = (said(claim["task"]["start_seconds"] + 1, texts[claim["position"]]),)
        assert worker.finish(claim, segments=segments)[0]["error_code"] is None
    eventually(lambda: farm.admin.get(f"/api/transcriptions/{made}").json()["state"] == "done", "done")
    return str(made)


class Editor:
    """Somebody who edits one transcription."""

    def __init__(self, client: httpx.Client, transcription_id: str) -> None:
        self.client = client
        self.place = f"/api/transcriptions/{transcription_id}"
        self.number = 0

    def ask(self, **edit: Any) -> httpx.Response:
        return self.client.post(f"{self.place}/edits", json={"based_on": self.number, **edit})

    def did(self, **edit: Any) -> Json:
        answer = self.ask(**edit)
        assert answer.status_code == 201, answer.text
        view: Json = answer.json()
        self.number = view["number"]
        return view

    def write(self, start: float, end: float, text: str, **more: Any) -> Json:
        return self.did(patches=[patch(start, end, text, **more)])

    def document(self, **query: Any) -> Json:
        found: Json = self.client.get(f"{self.place}/transcript", params={"format": "json", **query}).json()
        return found

    def text(self, **query: Any) -> str:
        return "|".join(segment["text"].strip() for segment in self.document(**query)["segments"])

    def file(self, format: str) -> str:
        return self.client.get(f"{self.place}/transcript", params={"format": format}).text


def patch(start: float, end: float, text: str, **more: Any) -> Json:
    return {"start": start, "end": end, "segments": [{"start": start, "end": end, "text": text, **more}]}


@pytest.fixture
def ann(either_farm: ServedFarm, make_worker: MakeWorker) -> Editor:
    """Ann, with a transcription of three segments."""
    client = either_farm.user("ann")
    made = transcribed(either_farm, make_worker(either_farm), "one two three", "four five", "six seven", client=client)
    return Editor(client, made)


@pytest.mark.parametrize("kind", ["patch", "rename", "replace", "reverse"])
def test_a_change_that_is_sent_again_as_its_answer_was_lost_counts_once(
    farm: ServedFarm, worker: HandWorker, kind: str
) -> None:
    made = transcribed(farm, worker, "so it begins", "and it ends")
    one, other = Editor(farm.admin, made), Editor(farm.user("bob"), made)
    one.did(patches=[{"start": 0, "end": 10, "segments": [{"start": 1, "end": 4, "text": "So it began"}]}])
    change: Json = {
        "patch": {
            "patches": [{"start": 10, "end": 20, "segments": [{"start": 11, "end": 14, "text": "And it ended"}]}]
        },
        "rename": {"rename": {"speaker": None, "name": "Ann"}},
        "replace": {"replace": {"text": "it", "by": "everything"}},
        "reverse": {"reverse": 1},
    }[kind]
    first = one.ask(**change)
    assert first.status_code == 201, first.text
    again = one.ask(**change)
    assert (again.status_code, again.json()) == (201, first.json())
    assert refused(other.ask(**change))[0] == 404, "it is of another owner"


def test_page_captions_segments_and_api_give_the_same_edited_text(ann: Editor) -> None:
    original = {format: ann.file(format) for format in ("txt", "srt", "vtt", "tsv", "json")}
    view = ann.write(11, 13, "fore five!", speaker="Ann")
    (change,) = view["changes"]
    assert (change["at"], change["removed"]) == (1, 1)
    assert [word["text"] for word in change["segments"][0]["words"]] == [" fore", " five!"]
    assert [(word["start"], word["probability"]) for word in change["segments"][0]["words"]] == [(11, None), (12, None)]
    ann.write(21, 23, "six seven", struck=True)
    assert ann.text() == "one two three|fore five!"
    assert ann.document()["text"] == "one two three fore five!"
    assert ann.document()["edits"] == 2
    assert ann.text(struck="true") == "one two three|fore five!|six seven"
    assert [one.get("struck") for one in ann.document(struck="true")["segments"]] == [None, None, True]
    assert ann.file("txt") == "one two three\nAnn: fore five!\n"
    assert "00:00:11,000 --> 00:00:13,000\nAnn: fore five!\n" in ann.file("srt")
    assert "<v Ann>fore five!" in ann.file("vtt")
    assert all("six" not in ann.file(format) for format in ("txt", "srt", "vtt", "tsv"))
    page = ann.client.get(f"{ann.place}/segments").json()["segments"]
    assert [segment["text"] for segment in page] == [" one two three", " fore five!"]
    for format, before in original.items():
        answer = ann.client.get(f"{ann.place}/transcript", params={"format": format, "at": 0})
        assert answer.text == before


def test_the_doors_of_others_give_the_edited_text_too(farm: ServedFarm, make_worker: MakeWorker) -> None:
    worker = make_worker(farm)
    form = {"model": "tones:instant", "response_format": "text"}
    files = {"file": ("a.wav", b"RIFF" + bytes(5000), "audio/wav")}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(farm.admin.post, "/v1/audio/transcriptions", data=form, files=files)
        eventually(lambda: farm.admin.get("/api/transcriptions").json()["transcriptions"], "the submission")
        worker.work_off(1)
        assert first.result(60).text == "word0\n"
    (made,) = farm.admin.get("/api/transcriptions").json()["transcriptions"]
    Editor(farm.admin, made["id"]).did(replace={"text": "word0", "by": "world"})
    again = farm.admin.post("/v1/audio/transcriptions", data=form, files=files)
    assert again.text == "world\n"
    streamed = farm.admin.post("/v1/audio/transcriptions", data=form | {"stream": "true"}, files=files)
    assert "word0" not in streamed.text


def test_segments_are_split_merged_and_put_back(ann: Editor) -> None:
    split = [{"start": 1, "end": 2, "text": "one"}, {"start": 2, "end": 4, "text": "two three"}]
    ann.did(patches=[{"start": 1, "end": 4, "segments": split}])
    ann.write(2, 13, "two three four five")
    assert ann.text() == "one|two three four five|six seven"
    words = ann.document()["segments"][1]["words"]
    assert [(word["word"], word["start"], word["probability"]) for word in words] == [
        (" two", 2, 0.3), (" three", 3, 0.3), (" four", 11, 0.3), (" five", 12, 0.3)
    ]  # fmt: skip
    ann.did(patches=[{"start": 1, "end": 13, "segments": None}])
    assert ann.text() == "one two three|four five|six seven"
    ann.did(patches=[{"start": 1, "end": 4, "segments": []}])
    assert ann.text() == "four five|six seven"


def found(client: httpx.Client, words: str) -> list[str]:
    """The passages that a search finds."""
    return [one["text"] for one in client.get("/api/search", params={"words": words}).json()["hits"]]


def test_what_is_written_is_found_and_what_stood_there_before_is_not(ann: Editor) -> None:
    ann.write(11, 13, "Okonkwo")
    ann.write(21, 23, "six seven", struck=True)
    assert found(ann.client, "okonkwo") == ["Okonkwo"]
    assert found(ann.client, "four") == found(ann.client, "seven") == []
    assert found(ann.client, "three") == ["one two three"]
    ann.did(back_to=0)
    assert found(ann.client, "okonkwo") == []
    assert found(ann.client, "seven") == ["six seven"]


def test_who_spoke_at_the_same_time_is_still_found(ann: Editor) -> None:
    both = [{"start": 11, "end": 13, "text": text, "speaker": text} for text in ("anna", "bela")]
    ann.did(patches=[{"start": 11, "end": 13, "segments": both}])
    one = {"start": 11, "end": 13, "text": "carla", "speaker": "anna"}
    ann.did(patches=[{"start": 11, "end": 13, "speakers": ["anna"], "segments": [one]}])
    assert ann.text() == "one two three|bela|carla|six seven"
    assert (found(ann.client, "anna"), found(ann.client, "carla")) == ([], ["carla"])
    assert found(ann.client, "bela") == ["bela"]


def test_two_who_change_different_passages_both_do_and_see_each_other(ann: Editor, either_farm: ServedFarm) -> None:
    bob = Editor(either_farm.admin, ann.place.rsplit("/", 1)[1])
    ann.write(1, 4, "ONE")
    view = bob.write(21, 23, "SIX")
    assert [(change["at"], change["segments"][0]["text"]) for change in view["changes"]] == [(0, " ONE"), (2, " SIX")]
    news = ann.client.get(f"{ann.place}/edits", params={"after": ann.number}).json()
    assert [change["at"] for change in news["changes"]] == [2]
    assert (news["number"], news["undo"]) == (2, 1)
    assert ann.text() == bob.text() == "ONE|four five|SIX"


def test_of_two_who_change_the_same_passage_the_second_is_shown_what_is_there(
    ann: Editor, either_farm: ServedFarm
) -> None:
    bob = Editor(either_farm.admin, ann.place.rsplit("/", 1)[1])
    ann.write(11, 13, "FOUR")
    answer = bob.ask(patches=[patch(11, 13, "for five")])
    assert refused(answer) == (409, "edit_conflict")
    details = answer.json()["error"]["details"]
    assert details["number"] == 1
    assert [segment["text"] for segment in details["passages"][0]["segments"]] == [" FOUR"]
    assert ann.text() == "one two three|FOUR|six seven"
    bob.number = details["number"]
    bob.write(11, 13, "for five")
    assert ann.text() == "one two three|for five|six seven"
    assert refused(ann.ask(reverse=1)) == (409, "edit_conflict")
    assert ann.text() == "one two three|for five|six seven"


def test_undo_redo_and_going_back_are_exact_and_each_persons_own(ann: Editor, either_farm: ServedFarm) -> None:
    bob = Editor(either_farm.admin, ann.place.rsplit("/", 1)[1])
    ann.write(1, 4, "ONE")
    ann.write(1, 4, "UNO")
    bob.write(21, 23, "SIX")
    view = ann.client.get(f"{ann.place}/edits").json()
    assert (view["undo"], view["redo"], view["changes"]) == (2, None, [])
    view = ann.did(reverse=2)
    assert (view["undo"], view["redo"]) == (1, 4)
    assert ann.text() == "ONE|four five|SIX"
    assert refused(ann.ask(reverse=2)) == (409, "wrong_state")
    ann.did(reverse=4)
    assert ann.text() == "UNO|four five|SIX"
    bob.number = ann.number
    bob.did(back_to=1)
    assert ann.text() == "ONE|four five|six seven"
    assert ann.text(at=3) == "UNO|four five|SIX"
    assert refused(ann.ask(back_to=0)) == (409, "edit_conflict")
    ann.number = bob.number
    ann.did(back_to=0)
    assert ann.text() == ann.text(at=0)
    assert refused(ann.ask(reverse=99))[0] == 422
    assert refused(ann.ask(back_to=50)) == (409, "wrong_state")


def test_a_speaker_is_named_once_and_everywhere_also_in_what_was_based_on_the_old_name(
    ann: Editor, either_farm: ServedFarm
) -> None:
    bob = Editor(either_farm.admin, ann.place.rsplit("/", 1)[1])
    ann.did(rename={"speaker": None, "name": "SPEAKER_1"})
    bob.number = ann.number
    ann.did(rename={"speaker": "SPEAKER_1", "name": "Ann"})
    bob.write(11, 13, "four FIVE", speaker="SPEAKER_1")
    assert [segment["speaker"] for segment in ann.document()["segments"]] == ["Ann"] * 3
    ann.did(reverse=1)
    assert [segment.get("speaker") for segment in ann.document()["segments"]] == [None, "Ann", None]


def test_a_version_has_a_name_and_its_text_can_be_had(ann: Editor) -> None:
    ann.write(1, 4, "ONE")
    assert ann.client.put(f"{ann.place}/edits/1/name", json={"name": "sent"}).status_code == 204
    ann.write(1, 4, "UNO")
    (version,) = ann.client.get(f"{ann.place}/edits").json()["versions"]
    assert (version["number"], version["name"], version["author"]) == (1, "sent", "ann")
    assert ann.text(at=1) == "ONE|four five|six seven"
    assert ann.client.put(f"{ann.place}/edits/1/name", json={"name": None}).status_code == 204
    assert ann.client.get(f"{ann.place}/edits").json()["versions"] == []


def test_what_another_transcription_says_is_adopted_with_its_words(farm: ServedFarm, worker: HandWorker) -> None:
    one = Editor(farm.admin, transcribed(farm, worker, "one two three", "four five"))
    other = transcribed(farm, worker, "won too tree", "for fife")
    one.did(adopt={"transcription_id": other, "start": 11, "end": 13})
    assert one.text() == "one two three|for fife"
    assert [word["probability"] for word in one.document()["segments"][1]["words"]] == [0.3, 0.3]
    theirs = transcribed(farm, worker, "secret", client=farm.user("eve"))
    mine = Editor(farm.user("ann"), transcribed(farm, worker, "mine", client=farm.user("ann")))
    assert refused(mine.ask(adopt={"transcription_id": theirs, "start": 0, "end": 9})) == (404, "not_found")


def test_an_edit_that_begins_before_the_stretch_that_was_heard_is_on_the_first_page_too(
    farm: ServedFarm, worker: HandWorker
) -> None:
    made = submit(farm.admin, options={"start_seconds": 10})["id"]
    (cut,) = worker.claim(transcribe=0, chunk=1)
    chunk = worker.upload(cut, 0) | {"start_seconds": 10, "end_seconds": 20}
    worker.told("append", token=cut["token"], chunks=[chunk], duration_seconds=None)
    worker.complete([worker.completion(cut, ChunkResult(duration_seconds=20, chunks=1))])
    worker.finish(*worker.claim(), text=" heard")
    eventually(lambda: farm.admin.get(f"/api/transcriptions/{made}").json()["state"] == "done", "done")
    editor = Editor(farm.admin, made)
    editor.write(0, 20, "written")
    assert editor.text() == "written"
    assert [one["text"] for one in farm.admin.get(f"{editor.place}/segments").json()["segments"]] == [" written"]


def test_edits_survive_a_retry_that_fills_a_hole(farm: ServedFarm, worker: HandWorker) -> None:
    made = submit(farm.admin)["id"]
    worker.cut_whole(2)
    first, second = worker.claim(transcribe=2)
    worker.finish(first, segments=(said(1, "one two"),))
    failure = {"token": second["token"], "code": "engine_error", "message": "broken", "permanent": True}
    worker.told("fail", failures=[failure])
    eventually(lambda: farm.admin.get(f"/api/transcriptions/{made}").json()["state"] == "incomplete", "incomplete")
    ann = Editor(farm.admin, made)
    ann.write(1, 3, "ONE TWO")
    assert farm.admin.post(f"{ann.place}/retry").is_success
    assert refused(ann.ask(replace={"text": "a", "by": "b"})) == (409, "wrong_state")
    assert farm.admin.get(f"{ann.place}/segments").json()["segments"][0]["text"] == " ONE TWO"
    (again,) = worker.claim(transcribe=1)
    worker.finish(again, segments=(said(11, "three"),))
    eventually(lambda: farm.admin.get(f"/api/transcriptions/{made}").json()["state"] == "done", "done")
    assert ann.text() == "ONE TWO|three"
    assert ann.text(at=0) == "one two|three"
    assert found(ann.client, "two") == ["ONE TWO"]


def test_nobody_reads_or_changes_the_edits_of_others(
    ann: Editor, either_farm: ServedFarm, make_worker: MakeWorker
) -> None:
    ann.write(1, 4, "ONE")
    eve = either_farm.user("eve")
    worker = make_worker(either_farm, "w-2", either_farm.token_for("worker", "ann")).http
    body = {"based_on": 1, "patches": [patch(1, 4, "HURT")]}
    for client, expected in ((eve, (404, "not_found")), (worker, (403, "forbidden"))):
        assert refused(client.get(f"{ann.place}/edits")) == expected
        assert refused(client.post(f"{ann.place}/edits", json=body)) == expected
        assert refused(client.put(f"{ann.place}/edits/1/name", json={"name": "x"})) == expected
    assert refused(either_farm.client("").post(f"{ann.place}/edits", json=body)) == (401, "unauthorized")
    assert ann.text() == "ONE|four five|six seven"


def test_what_cannot_be_an_edit_is_refused_and_changes_nothing(ann: Editor) -> None:
    one = {"start": 1, "end": 4, "text": "x"}
    wrong: list[Json] = [
        {},
        {"patches": []},
        {"patches": [patch(1, 4, "x")], "reverse": 1},
        {"patches": [patch(4, 4, "x")]},
        {"patches": [patch(4, 1, "x")]},
        {"patches": [patch(1, 4, " \n ")]},
        {"patches": [patch(1, 4, "x" * 10_001)]},
        {"patches": [patch(1, 4, "x", speaker="a\nb")]},
        {"patches": [patch(1, 4, "x", speaker=" ")]},
        {"patches": [patch(1, 4, "x", words=[])]},
        {"patches": [{"start": 2, "end": 4, "segments": [one]}]},
        {"patches": [{"start": 1, "end": 5, "segments": [one, {**one, "start": 0}]}]},
        {"patches": [patch(1, 4, "x"), patch(1, 4, "y")]},
        {"patches": [patch(1, 4, "x"), patch(3, 5, "y")]},
        {"patches": [patch(1, 1e9, "x")]},
        {"patches": [patch(n, n + 1, "x") for n in range(501)]},
        {"rename": {"speaker": "A"}},
        {"rename": {"speaker": "A", "name": ""}},
        {"replace": {"text": " ", "by": "x"}},
        {"replace": {"text": "x" * 1001, "by": "x"}},
        {"reverse": -1},
        {"based_on": 7, "patches": [patch(1, 4, "x")]},
    ]
    for body in wrong:
        assert refused(ann.ask(**body)) == (422, "invalid_request"), body
    assert refused(ann.ask(replace={"text": "nowhere", "by": "x"})) == (409, "wrong_state")
    big = json.dumps({"based_on": 0, "patches": [patch(1, 4, "x" * 9000) for _ in range(10)]})
    assert refused(ann.client.post(f"{ann.place}/edits", content=big)) == (413, "too_large")
    assert refused(ann.client.get(f"{ann.place}/transcript", params={"at": -1})) == (422, "invalid_request")
    assert ann.client.get(f"{ann.place}/edits").json()["number"] == 0


def test_what_is_not_finished_is_not_edited(farm: ServedFarm) -> None:
    ann = Editor(farm.admin, submit(farm.admin)["id"])
    assert refused(ann.ask(patches=[patch(1, 4, "x")])) == (409, "wrong_state")
    assert refused(farm.admin.get(f"{ann.place}/edits")) == (409, "wrong_state")
    assert refused(farm.admin.put(f"{ann.place}/edits/1/name", json={"name": "x"})) == (404, "not_found")


def test_a_passage_is_recognised_again_and_adopted(farm: ServedFarm, worker: HandWorker) -> None:
    ann = farm.user("ann")
    one = Editor(ann, transcribed(farm, worker, "one two three", "four five", client=ann))
    one.did(rename={"speaker": None, "name": "Ann"})
    stretch = {"start_seconds": 10, "end_seconds": 15, "engine": "tones", "model": "instant", "language": "de"}
    body = {"name": "again", "transcription_id": one.place.rsplit("/", 1)[1], "options": stretch, "peaks": False}
    assert refused(farm.user("eve").post("/api/transcriptions", json=body)) == (404, "not_found")
    assert refused(ann.post("/api/transcriptions", json=body | {"upload_id": "x"})) == (422, "invalid_request")
    wrong = body | {"options": stretch | {"end_seconds": 10}}
    assert refused(ann.post("/api/transcriptions", json=wrong)) == (422, "invalid_request")
    made = ann.post("/api/transcriptions", json=body).json()["id"]
    (cut,) = worker.claim(transcribe=0, chunk=1)
    assert (cut["task"]["resume_seconds"], cut["task"]["end_seconds"]) == (10, 15)
    sound = farm.client(farm.token).get(f"/api/transcriptions/{made}").json()["progress"]
    assert sound["cut_seconds"] == 10
    chunk = worker.upload(cut, 0) | {"start_seconds": 10, "end_seconds": 15}
    worker.told("append", token=cut["token"], chunks=[chunk], duration_seconds=15)
    worker.complete([worker.completion(cut, ChunkResult(duration_seconds=15, declared_seconds=15, chunks=1))])
    (claim,) = worker.claim(transcribe=1)
    worker.finish(claim, segments=(said(11, "vier fünf"),), language="de")
    eventually(lambda: ann.get(f"/api/transcriptions/{made}").json()["state"] == "done", "done")
    coverage = Editor(ann, made).document()["coverage"]
    assert (coverage["complete"], coverage["duration"], coverage["covered"]) == (True, 5, 5)
    one.did(adopt={"transcription_id": made, "start": 10, "end": 15})
    assert one.text() == "one two three|vier fünf"
    assert [segment["speaker"] for segment in one.document()["segments"]] == ["Ann", "Ann"]
    assert ann.delete(f"/api/transcriptions/{made}").status_code == 204
    assert one.text() == "one two three|vier fünf"
    assert ann.get(f"{one.place}").status_code == 200


def test_another_run_of_the_whole_is_adopted_without_what_people_wrote(farm: ServedFarm, worker: HandWorker) -> None:
    one = Editor(farm.admin, transcribed(farm, worker, "one two three", "four five", "six"))
    one.write(11, 13, "FOUR FIVE")
    other = transcribed(farm, worker, "won too tree", "for fife", "sick")
    one.did(adopt={"transcription_id": other, "start": 0, "end": 30, "keep_edits": True})
    assert one.text() == "won too tree|FOUR FIVE|sick"
    one.did(reverse=one.number)
    assert one.text() == "one two three|FOUR FIVE|six"
    one.did(adopt={"transcription_id": other, "start": 0, "end": 30})
    assert one.text() == "won too tree|for fife|sick"
    kept = {"transcription_id": other, "start": 0, "end": 30, "keep_edits": True}
    assert refused(one.ask(adopt=kept)) == (409, "wrong_state")


@pytest.mark.parametrize(("wanted", "letter"), [("e", "e"), ("E", "e"), ("i", "\u0131"), ("s", "\u017f")])
def test_replacements_of_replacements_do_not_fill_the_memory(
    farm: ServedFarm, worker: HandWorker, wanted: str, letter: str
) -> None:
    """Each may make a thousand letters of one: the third would have made sixty thousand millions."""
    made = transcribed(farm, worker, f"{letter} " * 8)
    ann = Editor(farm.admin, made)
    ann.did(replace={"text": wanted, "by": letter * 1000})
    for _ in range(3):
        assert refused(ann.ask(replace={"text": wanted, "by": letter * 1000})) == (413, "too_large")
    assert ann.ask(replace={"text": letter * 1000, "by": letter}).is_success
