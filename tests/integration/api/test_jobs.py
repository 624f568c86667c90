"""`/jobs`: asked for, looked at, listed, retried and cancelled by the one whose they are."""

import asyncio
import io
import itertools
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from image_processor.errors import StorageFullError
from image_processor.jobs import Database
from image_processor.locations.folders import Folders
from integration.api.front import UNKNOWN, Front, accepted, assert_refused, broken_picture, picture

NUMBERS = itertools.count(1)
RESIZE = {"op": "resize", "width": 80}
ODD_IDS = ["x", "failed%20", "%00", "..%2F..", "é", "a" * 5000, UNKNOWN.upper() + "X", "0", "null", "*"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def front(tmp_path_factory, root) -> Iterator[Front]:
    """One for all tests; each has a user of its own."""
    front = Front(tmp_path_factory.mktemp("jobs"), {"file_roots": (root,), "rate_limit_max_uploads": 0})
    yield front
    front.close()


@pytest.fixture
def user() -> str:
    return f"user {next(NUMBERS)}"


@pytest.fixture
def client(front, user):
    return front.client(user)


@pytest.fixture
def stranger(front, user):
    return front.client(f"not {user}")


@pytest.fixture
def pictures(root, user) -> Path:
    folder = root / user
    folder.mkdir()
    (folder / "in.jpg").write_bytes(picture((160, 120)))
    (folder / "broken.jpg").write_bytes(broken_picture())
    return folder


@pytest.fixture
def uri(pictures):
    return lambda name: (pictures / name).as_uri()


@pytest.fixture
def ask(client, uri):
    """Ask for a job; what is not said is a small resize of a sound picture."""

    def post(by=client, headers=None, **fields):
        given = {"input": uri("in.jpg"), "operations": [RESIZE], "output": uri("out.webp")}
        asked = {name: value for name, value in (given | fields).items() if value is not None}
        return by.post("/jobs", json=asked, headers=headers)

    return post


@pytest.fixture
def job(ask):
    """The body of a job that was asked for."""

    def submitted(**fields):
        answer = ask(**fields)
        assert answer.status_code == 202, answer.text
        return answer.json()

    return submitted


def status(client, job):
    answer = client.get(f"/jobs/{job['job_id']}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_job_from_a_file_to_a_file(front, client, pictures, uri, ask):
    answer = ask(priority="high", metadata={"album": "summer"})
    assert answer.status_code == 202
    job = answer.json()
    assert job == {
        "job_id": job["job_id"],
        "image_id": job["image_id"],
        "status": "queued",
        "status_url": f"/jobs/{job['job_id']}",
        "joined": False,
    }
    assert answer.headers["location"] == job["status_url"]
    waiting = status(client, job)
    assert (waiting["status"], waiting["state"], waiting["progress"]) == ("queued", "pending", 0)
    assert (waiting["output"], waiting["attempts"], waiting["retries"]) == (None, 0, 0)
    front.work()
    done = status(client, job)
    assert (done["status"], done["state"], done["progress"]) == ("completed", "completed", 100)
    assert (done["input"], done["output"]) == (uri("in.jpg"), uri("out.webp"))
    assert (done["error"], done["error_code"], done["reason"]) == (None, None, None)
    assert (done["priority"], done["metadata"], done["attempts"]) == ("high", {"album": "summer"}, 1)
    assert done["created_at"] <= done["started_at"] <= done["completed_at"]
    with Image.open(pictures / "out.webp") as made:
        assert (made.format, made.size) == ("WEBP", (80, 60))
    assert_refused(client.get(f"/api/v1/images/{job['image_id']}/direct"), 404, "not_found")
    assert front.staged() == []  # whatever the tests before this one left was worked on, too


def test_without_an_output_the_storage_keeps_it_under_the_sources_format(front, client, job):
    asked = job(output=None)
    front.work()
    done = status(client, asked)
    assert f"jobs/{asked['image_id']}/result.jpg" in front.stored()
    content = client.get(done["output"]).content
    with Image.open(io.BytesIO(content)) as made:
        assert (made.format, made.size) == ("JPEG", (80, 60))
    assert client.get(f"/api/v1/images/{asked['image_id']}").json()["url"] == done["output"]


def test_a_bucket_is_the_first_part_of_the_key(front, job):
    asked = job(output=None, bucket="mine")
    front.work()
    assert f"mine/{asked['image_id']}/result.jpg" in front.stored()


def test_an_upload_is_a_job_too(front, client):
    upload = accepted(client)
    front.work()
    done = status(client, upload)
    assert (done["status"], done["input"], done["output"]) == ("completed", None, None)


def test_a_failed_job_says_why(front, client, uri, job):
    asked = job(input=uri("broken.jpg"))
    front.work()
    failed = status(client, asked)
    assert (failed["status"], failed["reason"], failed["error_code"]) == (
        *("failed", "rejected"),
        "corrupt_image",
    )
    assert failed["error"].endswith(".")
    assert failed["completed_at"]


def test_an_input_that_is_not_there_fails_with_a_sentence_and_can_be_retried(
    front, client, pictures, uri, job
):
    asked = job(input=uri("later.jpg"))
    front.work()
    failed = status(client, asked)
    assert (failed["status"], failed["error_code"]) == ("failed", "source_not_found")
    (pictures / "later.jpg").write_bytes(picture((160, 120)))
    again = client.post(f"/jobs/{asked['job_id']}/retry")
    assert again.status_code == 202
    assert (again.json()["status"], again.json()["attempts"], again.json()["error"]) == ("queued", 0, None)
    front.work()
    assert status(client, asked)["status"] == "completed"
    assert_refused(client.post(f"/jobs/{asked['job_id']}/retry"), 409, "conflict")


def test_the_same_job_again_is_the_job_that_runs(front, client, uri, job):
    first = job()
    for fields in ({}, {"priority": "low"}, {"operations": [{"width": 80, "op": "resize"}]}):
        assert job(**fields) == first | {"joined": True}
    assert job(output=uri("other.webp"))["job_id"] != first["job_id"]
    front.work()
    assert job()["job_id"] != first["job_id"]  # it has come to rest


def test_a_completed_job_answers_where_that_is_asked_for(front, client, job):
    first = job()
    front.work()
    again = job(reuse=True)
    assert (again["job_id"], again["status"], again["joined"]) == (first["job_id"], "completed", True)


def test_others_never_join(stranger, ask, job):
    mine = job()
    theirs = ask(by=stranger).json()
    assert (theirs["joined"], theirs["job_id"] == mine["job_id"]) == (False, False)


def test_a_job_whose_end_was_asked_for_is_not_joined(front, client, job):
    running = job()
    front.app.jobs.claim("worker-2", 60, running["job_id"])
    assert client.post(f"/jobs/{running['job_id']}/cancel").status_code == 202
    assert job()["job_id"] != running["job_id"]


def test_the_same_key_gives_the_same_answer(front, stranger, client, ask):
    headers = {"Idempotency-Key": "order 66"}
    first = ask(headers=headers)
    assert "idempotent-replayed" not in first.headers
    front.work()
    again = ask(headers=headers)
    assert again.status_code == 202
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.json()["job_id"], again.json()["status"]) == (first.json()["job_id"], "completed")
    assert_refused(ask(headers=headers, priority="low"), 422, "idempotency_key_reused")
    assert ask(by=stranger, headers=headers).json()["joined"] is False


def test_a_replayed_answer_outlives_its_job(client, ask):
    headers = {"Idempotency-Key": "k"}
    first = ask(headers=headers).json()
    client.delete(f"/api/v1/images/{first['image_id']}")
    again = ask(headers=headers)
    assert (again.status_code, again.json()["job_id"]) == (202, first["job_id"])


@pytest.mark.parametrize("key", ["é".encode(), b"a\x07b", b"k" * 256])
def test_an_idempotency_key_is_printable_and_short(ask, key):
    assert_refused(ask(headers={"Idempotency-Key": key}), 422, "invalid_request")


@pytest.mark.parametrize(
    ("fields", "status", "code", "words"),
    [
        ({"input": None}, 422, "invalid_request", "job needs input."),
        ({"input": "photo.jpg"}, 422, "invalid_request", "scheme"),
        ({"input": "s3://bucket/input.jpg"}, 422, "invalid_request", "S3 is not set up"),
        ({"output": "s3://bucket/output.jpg"}, 422, "invalid_request", "S3 is not set up"),
        ({"output": "https://example.com/a.jpg"}, 422, "invalid_request", "written to"),
        ({"input": "file:///etc/passwd"}, 422, "invalid_request", "folder"),
        ({"input": "https://127.0.0.1/a.jpg"}, 422, "address_refused", ""),
        ({"callback_url": "https://example.com/"}, 422, "invalid_request", "WEBHOOK_SECRET"),
        ({"operations": [{"op": "resize", "width": 0}]}, 422, "invalid_operation", "width is 0"),
        ({"operations": [{"op": "twirl"}]}, 422, "invalid_operation", "there are resize, crop"),
        ({"operations": [{"op": "convert", "format": "auto"}]}, 422, "invalid_operation", "'auto'"),
        ({"operations": [{"op": "convert", "format": "bmp"}]}, 415, "unsupported_format", "JPEG"),
        ({"priority": "urgent"}, 422, "invalid_request", "'high', 'normal' or 'low'"),
        ({"ttl_seconds": 1}, 422, "invalid_request", "from 60 to 2592000"),
        ({"nonsense": 1}, 422, "invalid_request", "nonsense"),
    ],
)
def test_what_can_be_refused_is_refused_before_it_is_queued(ask, fields, status, code, words):
    error = assert_refused(ask(**fields), status, code)
    assert words in error["message"]


def test_what_was_refused_has_left_nothing(front, client, ask):
    staged = front.staged()
    assert ask(operations=[{"op": "resize", "width": 0}]).status_code == 422
    assert client.get("/jobs").json()["jobs"] == []
    assert front.staged() == staged


def test_an_output_whose_extension_cannot_be_written_is_refused(uri, ask):
    error = assert_refused(ask(output=uri("out.bmp")), 415, "unsupported_format")
    assert "image/webp" in error["details"]["supported"]


def test_a_refused_operation_is_told_with_its_place_field_and_bounds(ask):
    error = assert_refused(ask(operations=[RESIZE, {"op": "blur", "sigma": 1000}]), 422, "invalid_operation")
    assert (error["details"]["operation"], error["details"]["op"]) == (1, "blur")
    (fault,) = error["details"]["faults"]
    assert (fault["field"], fault["given"]) == ("sigma", "1000")


def test_without_roots_there_are_no_files(make_front, uri, ask):
    refused = ask(by=make_front().client())
    assert_refused(refused, 422, "invalid_request")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"NaN", b'{"input": "\\ud800"}', b"[" * 100_000])
def test_a_body_of_any_shape_is_refused_in_words(client, body):
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    assert_refused(client.post("/jobs", content=body, headers=headers), 422, "invalid_request")


def test_metadata_may_nest_so_deep_and_no_deeper(front, client, ask):
    deep = json.loads('{"a":' * 32 + "1" + "}" * 32)
    assert status(client, ask(metadata=deep).json())["metadata"] == deep
    assert_refused(ask(metadata={"a": deep}), 422, "invalid_request")


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "json", ";"])
def test_a_body_says_that_it_is_json(client, content_type):
    answer = client.post("/jobs", content=b"{}", headers={"Content-Type": content_type})
    assert "Content-Type" in assert_refused(answer, 422, "invalid_request")["message"]


def test_a_charset_beside_the_type_is_fine(client, uri):
    body = json.dumps({"input": uri("in.jpg")}).encode()
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.post("/jobs", content=body, headers=headers).status_code == 202


def endless() -> Iterable[bytes]:
    """It fails the test where it is read on and on."""
    for _ in range(16):
        yield b" " * 65_536
    raise AssertionError("the body was read beyond its bound")


def test_a_body_is_cut_off_at_its_bound(client):
    headers = {"Content-Type": "application/json"}
    assert_refused(client.post("/jobs", content=endless(), headers=headers), 413, "file_too_large")
    declared = headers | {"Content-Length": str(513 * 1024)}

    def unread():
        raise AssertionError("the body was read")
        yield b""

    assert_refused(client.post("/jobs", content=unread(), headers=declared), 413, "file_too_large")


def test_a_job_takes_one_upload_of_the_limit_and_so_does_a_twin(make_front, pictures, uri):
    client = make_front(file_roots=(pictures,), rate_limit_max_uploads=3).client()

    def ask(name):
        return client.post("/jobs", json={"input": uri("in.jpg"), "output": uri(name)})

    left = [ask(name).headers["x-ratelimit-remaining"] for name in ("a.png", "a.png", "b.png")]
    assert left == ["2", "1", "0"]
    refused = ask("c.png")
    assert_refused(refused, 429, "rate_limited")
    assert refused.headers["retry-after"]
    assert_refused(ask("a.png"), 429, "rate_limited")


def test_a_retry_takes_one_upload_of_the_limit(make_front, pictures, uri):
    front = make_front(file_roots=(pictures,), rate_limit_max_uploads=2)
    client = front.client()
    job = client.post("/jobs", json={"input": uri("none.jpg")}).json()
    retry = f"/jobs/{job['job_id']}/retry"
    front.work()
    assert client.post(retry).status_code == 202
    assert_refused(client.post(retry), 409, "conflict")
    front.work()
    assert_refused(client.post(retry), 429, "rate_limited")
    assert status(client, job)["status"] == "failed"


def at_once(count, call):
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda _: call(), range(count)))


def test_of_many_retries_at_once_one_gets_the_job(front, client, uri, job):
    asked = job(input=uri("none.jpg"))
    front.work()
    answers = at_once(20, lambda: client.post(f"/jobs/{asked['job_id']}/retry"))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 19


def test_of_many_requests_at_once_one_makes_the_job(client, ask):
    answers = at_once(20, ask)
    assert {answer.status_code for answer in answers} == {202}
    assert sorted(answer.json()["joined"] for answer in answers) == [False] + [True] * 19
    assert len(client.get("/jobs").json()["jobs"]) == 1


def test_a_cancelled_job_is_over_and_stays_so(front, client, job):
    asked = job()
    cancel = f"/jobs/{asked['job_id']}/cancel"
    for _ in range(2):
        answer = client.post(cancel)
        assert answer.status_code == 200
        assert (answer.json()["status"], answer.json()["reason"]) == ("failed", "cancelled")
    front.work()
    assert client.post(cancel).json()["attempts"] == 0
    assert_refused(client.post(f"/jobs/{asked['job_id']}/retry"), 409, "conflict")
    assert client.get("/jobs/failed").json() == []


def test_a_running_job_is_asked_to_end(front, client, job):
    asked = job()
    claim = front.app.jobs.claim("worker-2", 60, asked["job_id"])
    for _ in range(2):
        answer = client.post(f"/jobs/{asked['job_id']}/cancel")
        assert answer.status_code == 202
        assert (answer.json()["status"], answer.json()["cancel_requested"]) == ("processing", True)
    front.app.jobs.end_cancelled(claim)
    assert client.post(f"/jobs/{asked['job_id']}/cancel").status_code == 200


def test_what_could_not_be_replaced_outlives_the_cancelled_job(front, client, pictures, uri, job):
    kept = pictures / "kept.png"
    kept.write_bytes(b"what an earlier job wrote")
    asked = job(output=uri(kept.name))

    def be_full(*_):
        assert client.post(f"/jobs/{asked['job_id']}/cancel").status_code == 202
        raise StorageFullError("There is no room left.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folders, "put", be_full)
        front.work()
    assert status(client, asked)["reason"] == "cancelled"
    assert kept.read_bytes() == b"what an earlier job wrote"


def test_what_has_come_to_rest_cannot_be_cancelled(front, client, job):
    asked = job()
    front.work()
    error = assert_refused(client.post(f"/jobs/{asked['job_id']}/cancel"), 409, "conflict")
    assert error["details"]["status"] == "completed"
    assert status(client, asked)["status"] == "completed"


def test_what_failed_is_an_array_with_the_latest_first(front, stranger, client, uri, job):
    asked = [job(input=uri(name), output=None)["job_id"] for name in ("broken.jpg", "none.jpg")]
    for _ in asked:
        front.work()
    failed = client.get("/jobs/failed").json()
    assert sorted(entry["job_id"] for entry in failed) == sorted(asked)
    assert failed[0]["completed_at"] >= failed[1]["completed_at"]
    assert all(entry["error"] and entry["retries"] == 0 for entry in failed)
    assert len(client.get("/jobs/failed?limit=1").json()) == 1
    assert stranger.get("/jobs/failed").json() == []


def test_retries_are_counted(front, client, job):
    asked = job()
    for _ in range(2):
        claim = front.app.jobs.claim("worker-2", 60, asked["job_id"])
        front.app.jobs.release(claim)
    claim = front.app.jobs.claim("worker-2", 60, asked["job_id"])
    now = status(client, asked)
    assert (now["status"], now["attempts"], now["retries"]) == ("processing", 1, 0)
    front.app.jobs.snooze(claim, 60)
    now = status(client, asked)
    assert (now["status"], now["state"], now["progress"]) == ("queued", "retrying", 0)


def test_jobs_are_listed_page_by_page(stranger, client, uri, job):
    asked = [job(output=uri(f"{number}.webp"))["job_id"] for number in range(5)]
    first = client.get("/jobs?limit=2").json()
    second = client.get("/jobs", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    third = client.get("/jobs", params={"limit": 2, "cursor": second["next_cursor"]}).json()
    pages = [first, second, third]
    assert [len(page["jobs"]) for page in pages] == [2, 2, 1]
    assert {entry["job_id"] for page in pages for entry in page["jobs"]} == set(asked)
    assert third["next_cursor"] is None
    assert first["jobs"][0] == status(client, first["jobs"][0])
    assert client.get("/jobs").json()["next_cursor"] is None
    assert stranger.get("/jobs").json() == {"jobs": [], "next_cursor": None}


def test_the_list_tells_where_every_result_is(front, client, uri, job):
    ours, theirs = job(output=None), job()
    front.work()
    found = {entry["job_id"]: entry["output"] for entry in client.get("/jobs").json()["jobs"]}
    assert found[theirs["job_id"]] == uri("out.webp")
    assert found[ours["job_id"]] == f"/storage/jobs/{ours['image_id']}/result.jpg"


def test_filters_use_the_public_words(front, client, uri, job):
    done = job()
    front.work()
    waiting, low = job(output=uri("b.png")), job(output=uri("c.png"), priority="low")
    front.app.jobs.snooze(front.app.jobs.claim("worker-2", 60, waiting["job_id"]), 60)

    def found(query):
        return {entry["job_id"] for entry in client.get(f"/jobs?{query}").json()["jobs"]}

    assert found("status=queued") == {waiting["job_id"], low["job_id"]}
    assert found("status=completed") == {done["job_id"]}
    assert found("status=failed") == set()
    assert found("priority=low") == {low["job_id"]}
    created_at = status(client, low)["created_at"]
    assert low["job_id"] in found(f"created_after={created_at}")
    assert low["job_id"] not in found(f"created_before={created_at}")
    assert found("created_after=2999-01-01T00:00:00Z") == set()


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "cursor=nonsense",
        f"cursor={'A' * 201}",
        "cursor=%00",
        "status=retrying",
        "priority=urgent",
        "created_after=yesterday",
        f"created_after={quote('9999-12-31T23:59:59-23:00')}",
        f"created_before={quote('0001-01-01T00:00:00+23:00')}",
        "user_id=somebody",
    ],
)
def test_a_query_out_of_its_range_is_refused(client, query):
    assert_refused(client.get(f"/jobs?{query}"), 422, "invalid_request")


@pytest.mark.parametrize("path", ["", "/retry", "/cancel"])
def test_jobs_of_others_and_ids_of_any_shape_are_not_found(stranger, client, job, path):
    mine = job()["job_id"]
    method = "POST" if path else "GET"
    assert_refused(stranger.request(method, f"/jobs/{mine}{path}"), 404, "not_found")
    assert status(client, {"job_id": mine})["status"] == "queued"
    for odd in [*ODD_IDS, UNKNOWN]:
        answer = client.request(method, f"/jobs/{odd}{path}")
        assert answer.status_code in (404, 307), odd


def test_everything_asks_for_a_token(front):
    nobody = front.client(user=None)
    assert_refused(nobody.post("/jobs", json={}), 401, "not_authenticated")
    for path in ("/jobs", "/jobs/failed", f"/jobs/{UNKNOWN}", "/jobs/x", "/jobs/x/events"):
        assert_refused(nobody.get(path), 401, "not_authenticated")
    for path in (f"/jobs/{UNKNOWN}/retry", f"/jobs/{UNKNOWN}/cancel"):
        assert_refused(nobody.post(path), 401, "not_authenticated")


def test_the_description_stands_by_itself(front):
    schema = front.api.openapi()
    submit = schema["paths"]["/jobs"]["post"]
    asked = submit["requestBody"]["content"]["application/json"]["schema"]
    assert asked["required"] == ["input"]
    assert {"408", "413", "415", "422", "429", "503", "507"} <= set(submit["responses"])
    assert "Location" in submit["responses"]["202"]["headers"]
    described = [schema["components"]["schemas"][name] for name in ("JobBody", "JobAccepted")]
    bare = [
        name for model in described for name, field in model["properties"].items() if "examples" not in field
    ]
    assert bare == []


@pytest.mark.parametrize("path", ["/jobs/{}", "/api/v1/images/jobs/{}"])
def test_no_request_waits_for_the_database_that_another_asks(front, client, job, monkeypatch, path):
    job_id = job(output=None)["job_id"]
    front.work()
    on_the_loop, read = [], Database.read

    def noted(database):
        on_the_loop.append(asyncio._get_running_loop() is not None)
        return read(database)

    monkeypatch.setattr(Database, "read", noted)
    assert client.get(path.format(job_id)).json()["status"] == "completed"
    assert on_the_loop
    assert not any(on_the_loop)
