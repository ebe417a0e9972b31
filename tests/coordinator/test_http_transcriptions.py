"""What clients do with transcriptions: submit, list, cancel, retry, delete; segments and files of the transcript."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from zipfile import ZipFile, is_zipfile

import httpx
import pytest
from support.hand_worker import HandWorker, MakeWorker
from support.served_farm import ServedFarm, StartFarm, eventually, files_in, refused
from support.submitting import AUDIO, submit

from whisper_farm import log
from whisper_farm.coordinator import transcripts
from whisper_farm.models import REPOSITORIES
from whisper_farm.transcript.document import from_json
from whisper_farm.transcript.formats import FORMATS
from whisper_farm.transcript.transcript import Transcript


def view(farm: ServedFarm, made: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = farm.admin.get(f"/api/transcriptions/{made['id']}").json()
    return answer


def done(farm: ServedFarm, made: dict[str, Any], state: str = "done") -> None:
    eventually(lambda: view(farm, made)["state"] == state, state)


def test_the_same_key_is_the_same_transcription(farm: ServedFarm) -> None:
    made = submit(farm.admin, key="k1")
    again = farm.admin.post("/api/transcriptions", json={"name": "other", "key": "k1"})
    assert (again.status_code, again.json()["id"]) == (200, made["id"])
    declared = farm.admin.get("/openapi.json").json()["paths"]["/api/transcriptions"]["post"]["responses"]
    bodies = [declared[status]["content"]["application/json"]["schema"] for status in ("200", "201")]
    assert bodies == [{"$ref": "#/components/schemas/TranscriptionView"}] * 2
    theirs = submit(farm.user("ann"), key="k1")
    assert theirs["id"] != made["id"]


def test_of_two_who_race_for_a_key_one_makes_it_and_the_other_finds_it(
    either_farm: ServedFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm = either_farm
    upload = farm.admin.post("/api/uploads", json={"name": "a", "size": len(AUDIO)}).json()["upload_id"]
    farm.admin.put(f"/api/uploads/{upload}", content=AUDIO)
    store = farm.coordinator.store
    read, both = store.read, asyncio.Barrier(2)

    async def read_in_step(work: Callable[..., Any]) -> Any:
        found = await read(work)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await both.wait()
        return found

    def submitted(client: httpx.Client) -> tuple[int, str]:
        answer = client.post("/api/transcriptions", json={"name": "a", "upload_id": upload, "key": "k"})
        return answer.status_code, answer.json()["id"]

    clients = [farm.client(farm.token) for _ in range(2)]
    monkeypatch.setattr(store, "read", read_in_step)
    with ThreadPoolExecutor(2) as pool:
        answers = [one.result(60) for one in [pool.submit(submitted, client) for client in clients]]
    assert sorted(status for status, _ in answers) == [200, 201]
    assert len({made for _, made in answers}) == 1


def test_a_submission_does_not_wait_for_the_claims_that_it_wakes(
    farm: ServedFarm, worker: HandWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()
    store = farm.coordinator.store
    write = store.write

    async def slow_in_the_background(work: Callable[..., Any]) -> Any:
        if log._arrived.get(None) is None:
            await released.wait()
        return await write(work)

    async def release() -> None:
        released.set()

    farm.admin.timeout = 20
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(worker.claim, 0, 1, 60)
        eventually(lambda: len(farm.coordinator.long_polls) == 1, "the wait")
        monkeypatch.setattr(store, "write", slow_in_the_background)
        try:
            assert submit(farm.admin)["state"] == "queued"
        finally:
            farm.on_loop(release)
        assert len(waiting.result(60)) == 1


def test_subtitles_are_laid_out_as_a_query_asks(farm: ServedFarm, worker: HandWorker) -> None:
    made = submit(farm.admin)
    worker.work_off(chunks=1)
    done(farm, made)
    place = f"/api/transcriptions/{made['id']}/transcript"
    plain, marked = (
        farm.admin.get(place, params={"format": "vtt", **layout}).text
        for layout in ({}, {"highlight_words": "true", "max_line_width": "42", "max_line_count": "2"})
    )
    assert plain.replace("word0", "<u>word0</u>") == marked
    assert refused(farm.admin.get(place, params={"format": "srt", "max_line_width": "0"})) == (422, "invalid_request")


def test_a_file_that_is_slow_to_write_holds_up_nothing_else_and_is_named_as_what_is_slow(
    farm: ServedFarm, worker: HandWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = submit(farm.admin)
    worker.work_off(chunks=1)
    done(farm, made)
    written = threading.Event()
    vtt = FORMATS["vtt"]

    def slow(transcript: Transcript) -> bytes:
        assert written.wait(60)
        return vtt.write(transcript)

    monkeypatch.setitem(FORMATS, "vtt", replace(vtt, write=slow))
    monkeypatch.setattr(transcripts, "RENDER_SECONDS", 0.5)
    place = f"/api/transcriptions/{made['id']}/transcript"
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(farm.admin.get, place, params={"format": "vtt"}) for _ in range(8)]
        assert farm.admin.get("/api/transcriptions").status_code == 200
        try:
            assert {refused(one.result(60)) for one in asked} == {(503, "server_busy")}
        finally:
            written.set()
    monkeypatch.setattr(transcripts, "RENDER_SECONDS", 60)
    assert farm.admin.get(place, params={"format": "vtt"}).text.startswith("WEBVTT")


FOLDERS = (
    "/etc",
    "./model",
    "../model",
    "~/model",
    "C:\\model",
    "\\\\host\\model",
    "a/b/c",
    "owner/../model",
    "model/",
    ".",
)


def test_a_folder_of_a_worker_is_no_model_that_users_may_name(start_farm: StartFarm, tmp_path: Path) -> None:
    farm = start_farm()
    upload = farm.admin.post("/api/uploads", json={"name": "a", "size": 5}).json()["upload_id"]
    farm.admin.put(f"/api/uploads/{upload}", content=b"audio")

    def submitted(model: str) -> httpx.Response:
        body = {"name": "a", "upload_id": upload, "options": {"model": model}}
        return farm.admin.post("/api/transcriptions", json=body)

    for folder in FOLDERS:
        assert refused(submitted(folder)) == (403, "forbidden"), folder
    assert refused(submitted("m" * 256)) == (422, "invalid_request")
    for model in ("small", "large-v3-turbo", "Systran/faster-whisper-small", "m" * 255):
        assert submitted(model).status_code == 201, model
    local = start_farm(data=tmp_path / "local", database=None, local_models=True)
    assert submit(local.admin, options={"model": "/models/mine"})["options"]["model"] == "/models/mine"


def test_an_upload_can_be_sent_again_and_submitted_twice(farm: ServedFarm) -> None:
    upload = farm.admin.post("/api/uploads", json={"name": "a", "size": 5}).json()["upload_id"]
    assert farm.admin.put(f"/api/uploads/{upload}", content=b"first").status_code == 204
    assert farm.admin.put(f"/api/uploads/{upload}", content=b"again").status_code == 204
    body = {"name": "a", "upload_id": upload, "sha256": "0" * 64}
    assert farm.admin.post("/api/transcriptions", json=body).json()["error"]["code"] == "digest_mismatch"
    del body["sha256"]
    both = [farm.admin.post("/api/transcriptions", json=body).json() for _ in range(2)]
    assert both[0]["id"] != both[1]["id"]
    assert farm.admin.put(f"/api/uploads/{upload}", content=b"third").json()["error"]["code"] == "wrong_state"
    stored = files_in(farm.data / "blobs" / "sources")
    assert [path.read_bytes() for path in stored] == [b"again"]
    for one in both:
        farm.admin.post(f"/api/transcriptions/{one['id']}/cancel")
    assert farm.admin.delete(f"/api/transcriptions/{both[0]['id']}").status_code == 204
    assert [path.read_bytes() for path in stored] == [b"again"]
    assert farm.admin.delete(f"/api/transcriptions/{both[1]['id']}").status_code == 204
    assert not any(path.exists() for path in stored)


def test_what_cannot_be_transcribed_is_refused_at_the_door(start_farm: StartFarm) -> None:
    farm = start_farm(max_upload_bytes=1000)

    def refusal(call: str, **body: Any) -> tuple[int, str]:
        answer = farm.admin.post(call, json=body)
        return answer.status_code, answer.json()["error"]["code"]

    assert refusal("/api/uploads", name="a", size=0) == (422, "source_empty")
    assert refusal("/api/uploads", name="a", size=1001) == (413, "too_large")
    assert farm.admin.post("/api/uploads", json={"name": "a", "size": 0}).json()["error"]["details"]["lasting"] is True
    assert refusal("/api/transcriptions", name="a") == (422, "invalid_request")
    assert refusal("/api/transcriptions", name="a", upload_id="u", path="/a") == (422, "invalid_request")
    assert refusal("/api/transcriptions", name="a", upload_id="unknown") == (404, "not_found")
    assert refusal("/api/transcriptions", name="a", path="/etc/passwd") == (403, "forbidden")


def test_an_option_that_no_live_worker_heeds_is_refused_as_by_the_command_line(
    farm: ServedFarm, make_worker: MakeWorker
) -> None:
    upload = farm.admin.post("/api/uploads", json={"name": "a", "size": 5}).json()["upload_id"]
    farm.admin.put(f"/api/uploads/{upload}", content=b"audio")

    def submitted(**options: object) -> httpx.Response:
        asked = {"engine": "tones", "model": "instant", "beam_size": 3, **options}
        return farm.admin.post("/api/transcriptions", json={"name": "a", "upload_id": upload, "options": asked})

    def offers(worker: HandWorker, *options: str) -> None:
        told = worker.registration()
        told["engines"][0]["options"] = options
        worker.told("register", **told)

    assert submitted().status_code == 201, "nobody is there who knows"
    less, more = make_worker(farm, "less"), make_worker(farm, "more")
    offers(less, "language")
    assert submitted().status_code == 201, "one does not say"
    offers(more, "language", "word_timestamps")
    answer = submitted()
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "option_unsupported")
    assert answer.json()["error"]["message"] == "tones has no option --beam_size; leave it out."
    assert submitted(beam_size=5, start_seconds=1).status_code == 201, (
        "what is usual, or of the sound, is heeded by all"
    )
    assert submitted(beam_size=5, initial_prompt="Anna", hotwords="Ben").status_code == 201, "hints are borne"
    offers(more, "language", "beam_size")
    assert submitted().status_code == 201, "one heeds it"


@pytest.mark.parametrize("model", ["turbo", "distil-large-v3", "small.en", REPOSITORIES["turbo"]])
def test_a_model_that_cannot_translate_is_refused_before_any_work_is_done(farm: ServedFarm, model: str) -> None:
    asked = {"engine": "faster-whisper", "model": model, "task": "translate"}
    upload = farm.admin.post("/api/uploads", json={"name": "a", "size": 5}).json()["upload_id"]
    farm.admin.put(f"/api/uploads/{upload}", content=b"audio")

    def submitted(**options: str) -> httpx.Response:
        body = {"name": "a", "upload_id": upload, "options": {**asked, **options}}
        return farm.admin.post("/api/transcriptions", json=body)

    answer = submitted()
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "option_unsupported")
    assert answer.json()["error"]["message"] == f"The model {model} cannot translate; choose large-v3, medium or small."
    assert farm.admin.get("/api/transcriptions").json()["transcriptions"] == []
    assert submitted(task="transcribe").status_code == submitted(model="large-v3").status_code == 201


def test_files_of_this_machine_are_sources_only_where_that_is_meant(
    start_farm: StartFarm, make_worker: MakeWorker, tmp_path: Path
) -> None:
    farm = start_farm(local_sources=True)
    file = tmp_path / "Ünï 'codé.mp3"
    file.write_bytes(AUDIO)

    def refusal(path: Path | str, client: httpx.Client = farm.admin) -> str:
        return str(client.post("/api/transcriptions", json={"name": "a", "path": str(path)}).json()["error"]["code"])

    assert refusal(file, farm.user("ann")) == "forbidden"
    assert refusal("relative.mp3") == "invalid_request"
    assert refusal(tmp_path / "none.mp3") == "source_missing"
    assert refusal(tmp_path) == "source_unreadable"
    (tmp_path / "empty.mp3").touch()
    assert refusal(tmp_path / "empty.mp3") == "source_empty"
    body = {"name": file.name, "path": str(file), "options": {"engine": "tones", "model": "instant"}}
    assert farm.admin.post("/api/transcriptions", json=body).status_code == 201
    worker = make_worker(farm)
    (claim,) = worker.claim(0, chunk=1)
    source = claim["task"]["source"]
    assert source["name"] == file.name
    assert worker.transfer(source["transfer"]).content == AUDIO
    assert worker.transfer(source["transfer"], Range="bytes=5-8").content == AUDIO[5:9]
    file.write_bytes(AUDIO + b"!")
    assert worker.transfer(source["transfer"]).json()["error"]["code"] == "source_unreadable"
    file.unlink()
    assert worker.transfer(source["transfer"]).json()["error"]["code"] == "blob_missing"


def test_text_streams_in_order_while_chunks_finish_out_of_order(farm: ServedFarm, worker: HandWorker) -> None:
    made = submit(farm.admin)
    cutting = worker.begin(12)
    claims = worker.claim(12)

    def page(after: int) -> tuple[list[str], int, bool]:
        answer = farm.admin.get(f"/api/transcriptions/{made['id']}/segments", params={"after": after}).json()
        return [segment["text"] for segment in answer["segments"]], answer["next"], answer["finished"]

    assert page(-1) == ([], -1, False)
    worker.finish(claims[1], claims[2], claims[11])
    assert page(-1) == ([], -1, False)
    worker.finish(claims[0])
    assert page(-1) == ([" word0", " word1", " word2"], 2, False)
    assert page(2) == ([], 2, False)
    failure = {"token": claims[3]["token"], "code": "not_audio", "message": "no", "permanent": True}
    worker.told("fail", failures=[failure])
    worker.finish(*claims[4:11])
    assert page(2) == ([f" word{n}" for n in range(4, 12)], 11, False)
    worker.complete([worker.cut_done(cutting, 12)])
    assert page(11) == ([], 11, True)
    done(farm, made, "incomplete")


def test_missing_seconds_are_named_and_can_be_tried_again(farm: ServedFarm, worker: HandWorker) -> None:
    made = submit(farm.admin)
    worker.cut_whole(2)
    first, second = worker.claim(2)
    worker.finish(second)
    failure = {"token": first["token"], "code": "engine_error", "message": "too loud", "permanent": True}
    worker.told("fail", failures=[failure])
    done(farm, made, "incomplete")
    (gap,) = view(farm, made)["gaps"]
    assert (gap["start_seconds"], gap["end_seconds"], gap["position"]) == (0.0, 10.0, 0)
    document = farm.admin.get(f"/api/transcriptions/{made['id']}/transcript").json()
    assert document["coverage"]["missing"][0]["reason"] == "engine_error: too loud"
    jobs = farm.admin.get(f"/api/transcriptions/{made['id']}/jobs").json()["jobs"]
    (attempt,) = next(job for job in jobs if job["kind"] == "transcribe")["attempts"]
    assert (attempt["state"], attempt["error_message"], attempt["worker_name"]) == ("failed", "too loud", "w-1")
    assert farm.admin.post(f"/api/transcriptions/{made['id']}/retry").json()["state"] == "running"
    worker.work_off()
    done(farm, made)
    text = farm.admin.get(f"/api/transcriptions/{made['id']}/transcript", params={"format": "txt"}).text
    assert text.split() == ["word0", "word1"]


def test_cancel_retry_and_delete_keep_to_the_states(farm: ServedFarm, worker: HandWorker) -> None:
    made = submit(farm.admin)
    place = f"/api/transcriptions/{made['id']}"

    def code(answer: httpx.Response) -> str:
        return str(answer.json()["error"]["code"])

    assert code(farm.admin.post(f"{place}/retry")) == "wrong_state"
    assert code(farm.admin.delete(place)) == "wrong_state"
    assert code(farm.admin.get(f"{place}/transcript")) == "wrong_state"
    for _ in range(2):
        assert farm.admin.post(f"{place}/cancel").json()["state"] == "cancelled"
    assert farm.admin.post(f"{place}/retry").json()["state"] == "queued"
    worker.work_off()
    done(farm, made)
    assert code(farm.admin.post(f"{place}/cancel")) == "wrong_state"
    assert farm.admin.delete(place).status_code == 204
    assert code(farm.admin.get(place)) == "not_found"
    assert [path.name for path in files_in(farm.data / "blobs")] == ["farm-id"]


@pytest.mark.parametrize("name", ["talk.mp3", 'a/b "q".tar.gz', "Gespräch — 対話\n.wav", "..", "x" * 255])
def test_the_transcript_is_a_file_in_every_format(farm: ServedFarm, worker: HandWorker, name: str) -> None:
    made = submit(farm.admin, name=name)
    worker.work_off(chunks=2)
    done(farm, made)
    kinds = {
        "txt": "text/plain",
        "srt": "application/x-subrip",
        "vtt": "text/vtt",
        "tsv": "text/tab-separated-values",
        "json": "application/json",
    }
    for format, kind in kinds.items():
        answer = farm.admin.get(f"/api/transcriptions/{made['id']}/transcript", params={"format": format})
        assert answer.headers["Content-Type"].partition(";")[0] == kind
        assert "word0" in answer.text
        assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
        assert answer.headers["Content-Disposition"].isascii()
        assert f".{format}" in answer.headers["Content-Disposition"]
    refused = farm.admin.get(f"/api/transcriptions/{made['id']}/transcript", params={"format": "doc"})
    assert refused.status_code == 422
    if name == "Gespräch — 対話\n.wav":
        assert "filename*=UTF-8''Gespr%C3%A4ch%20%E2%80%94%20" in answer.headers["Content-Disposition"]
    transcript = from_json(json.loads(answer.content))
    assert transcript.text == "word0 word1"


def parts(file: bytes) -> bytes | dict[str, bytes]:
    """What is compared of a file: a document of Word says when it was packed, so its parts are."""
    if not is_zipfile(BytesIO(file)):
        return file
    with ZipFile(BytesIO(file)) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_several_formats_come_as_one_zip_with_what_each_of_them_has_alone(farm: ServedFarm, worker: HandWorker) -> None:
    made = submit(farm.admin, name="../talk.mp3")
    worker.work_off(chunks=2)
    done(farm, made)
    place = f"/api/transcriptions/{made['id']}/transcript"
    with ZipFile(BytesIO(farm.admin.get(f"{place}s").content)) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    for name, one in FORMATS.items():
        alone, here = farm.admin.get(place, params={"format": name}), files.pop(f"talk.{one.extension}")
        assert json.loads(here) == alone.json() if name == "json" else parts(here) == parts(alone.content)
    assert not files
    with ZipFile(BytesIO(farm.admin.get(f"{place}s", params={"format": ["srt", "txt", "srt"]}).content)) as packed:
        assert packed.namelist() == ["talk.srt", "talk.txt"]
    assert refused(farm.admin.get(f"{place}s", params={"format": "exe"})) == (422, "invalid_request")


def test_many_transcriptions_come_as_one_zip_whatever_their_names_and_lines_are_as_long_as_asked(
    farm: ServedFarm, worker: HandWorker
) -> None:
    made = [submit(farm.admin, name=name) for name in ("Müller #1?.mp3", "talk.mp3", "in/TALK.wav", "talk.mp3", "..\\")]
    worker.work_off(chunks=1)
    for each in made:
        done(farm, each)
    first, *others = (each["id"] for each in made)
    place = f"/api/transcriptions/{first}/transcripts"
    asked = {"format": ["srt", "csv"], "also": [*others, first], "max_line_width": 5}
    answer = farm.admin.get(place, params=asked)
    assert 'filename="transcripts.zip"' in answer.headers["Content-Disposition"]
    with ZipFile(BytesIO(answer.content)) as packed:
        names = packed.namelist()
        lines = packed.read(names[0]).decode().split("\n")
    assert [name for name in names if name.endswith(".srt")] == [
        "Müller #1_.srt", "talk.mp3.srt", "TALK.wav.srt", "talk.mp3-2.srt", "transcript.srt"
    ]  # fmt: skip
    assert len({name.casefold() for name in names}) == 10
    assert "word0" in lines
    ann = farm.user("ann")
    assert refused(ann.get(place, params=asked)) == (404, "not_found")
    mine = f"/api/transcriptions/{submit(ann)['id']}/transcripts"
    assert refused(ann.get(mine, params={"also": first})) == (404, "not_found")
    assert refused(farm.admin.get(place, params={"also": [first] * 101})) == (422, "invalid_request")
    beyond = farm.admin.get(place, params=asked, headers={"Range": "bytes=1000000000-"})
    assert beyond.status_code == 416
    gc.collect()  # a file that is left open complains


def test_files_of_a_long_name_can_be_unpacked(farm: ServedFarm, worker: HandWorker, tmp_path: Path) -> None:
    made = submit(farm.admin, name="ä会" * 127)
    worker.work_off(chunks=1)
    done(farm, made)
    place = f"/api/transcriptions/{made['id']}/transcript"
    with ZipFile(BytesIO(farm.admin.get(f"{place}s").content)) as packed:
        packed.extractall(tmp_path / "unpacked")
    assert len(list((tmp_path / "unpacked").iterdir())) == len(FORMATS)
    named = farm.admin.get(place).headers["Content-Disposition"]
    assert len(unquote(named.rpartition("''")[2]).encode()) <= 255


def test_a_recording_without_speech_has_an_empty_transcript(farm: ServedFarm, worker: HandWorker) -> None:
    made = submit(farm.admin)
    (cutting,) = worker.claim(0, chunk=1)
    silent = {**worker.upload(cutting, 0), "speech_seconds": 0}
    worker.told("append", token=cutting["token"], chunks=[silent])
    worker.complete([worker.cut_done(cutting, 1)])
    done(farm, made)
    document = farm.admin.get(f"/api/transcriptions/{made['id']}/transcript").json()
    assert (document["text"], document["segments"]) == ("", [])
    assert document["coverage"]["complete"] is True
    assert farm.admin.get(f"/api/transcriptions/{made['id']}/transcript", params={"format": "srt"}).is_success


def test_tokens_are_made_listed_and_revoked(farm: ServedFarm) -> None:
    secret = farm.token_for("user", "ann")
    ann = farm.client(secret)
    (mine,) = ann.get("/api/tokens").json()["tokens"]
    assert (mine["owner"], mine["scope"], mine["token"]) == ("ann", "user", None)
    second = ann.post("/api/tokens", json={"name": "phone", "scope": "user"}).json()
    assert farm.client(second["token"]).get("/api/server").json()["owner"] == "ann"
    phone = farm.user("ann")
    assert {one["owner"] for one in farm.admin.get("/api/tokens").json()["tokens"]} == {"admin", "ann"}
    assert phone.delete(f"/api/tokens/{mine['id']}").status_code == 204
    assert ann.get("/api/server").status_code == 401
    (admins,) = [one for one in farm.admin.get("/api/tokens").json()["tokens"] if one["owner"] == "admin"]
    assert phone.delete(f"/api/tokens/{admins['id']}").status_code == 404
    assert farm.admin.get("/api/server").status_code == 200


def test_the_server_says_what_it_is(farm: ServedFarm, make_worker: MakeWorker) -> None:
    make_worker(farm)
    submit(farm.admin)
    told = farm.admin.get("/api/server").json()
    assert (told["scope"], told["owner"], told["workers_live"], told["jobs_queued"]) == ("admin", "admin", 1, 1)
    assert str(farm.data) in told["blobs"]
    assert str(farm.data) not in farm.user("ann").get("/api/server").text


def test_metrics_count_what_happened(farm: ServedFarm, make_worker: MakeWorker) -> None:
    worker = make_worker(farm)
    submit(farm.admin)
    worker.work_off(chunks=3)
    submit(farm.admin)
    text = farm.admin.get("/metrics").text
    for line in (
        'whisper_farm_claims_total{hedge="no",kind="transcribe"} 3.0',
        'whisper_farm_claims_total{hedge="no",kind="chunk"} 1.0',
        'whisper_farm_outcomes_total{call="complete",code="accepted"} 4.0',
        "whisper_farm_audio_seconds_done_total 30.0",
        'whisper_farm_jobs_queued{kind="chunk"} 1.0',
        'whisper_farm_jobs_queued{kind="transcribe"} 0.0',
        "whisper_farm_leases_lapsed 0.0",
        'whisper_farm_workers{state="live"} 1.0',
        'whisper_farm_worker_speed{worker="w-1"} 20.0',
        'whisper_farm_events_total{kind="transcription_submitted"} 2.0',
    ):
        assert line in text.splitlines(), line
    assert 'route="/api/transcriptions"' in text


def test_each_submission_of_a_batch_is_taken_or_refused_by_itself(farm: ServedFarm) -> None:
    ann = farm.user("ann")
    there = submit(ann, key="k1")
    good = {"name": "again", "transcription_id": there["id"], "options": there["options"]}
    unknown = {**good, "upload_id": "nowhere", "transcription_id": None}
    batch = [good, unknown, {**good, "key": "k1"}, {**good, "priority": 100}]
    told = ann.post("/api/transcriptions/batch", json={"submissions": batch})
    assert told.status_code == 200
    answers = told.json()["submissions"]
    assert [(one["error"] or {}).get("code") for one in answers] == [None, "not_found", None, "forbidden"]
    assert answers[2]["transcription"]["id"] == there["id"], "the same key"
    made = answers[0]["transcription"]["id"]
    assert made != there["id"]
    assert {one["id"] for one in ann.get("/api/transcriptions").json()["transcriptions"]} == {there["id"], made}
    assert refused(ann.post("/api/transcriptions/batch", json={"submissions": batch * 26})) == (422, "invalid_request")
