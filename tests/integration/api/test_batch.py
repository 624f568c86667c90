"""Several images at once, and whose they are."""

import pytest
from sqlalchemy import event

from image_processor.errors import StorageError
from integration.api.front import UNKNOWN, accepted, assert_refused, picture

BATCH = "/api/v1/images/batch"


@pytest.fixture
def images(front, client):
    """Three images that have completed."""
    jobs = [accepted(client, picture((200 + number, 100), "PNG")) for number in range(3)]
    front.work()
    return [job["image_id"] for job in jobs]


def test_images_come_in_the_order_asked_for(client, images):
    wanted = [images[2], images[0], images[1]]
    answer = client.get(BATCH, params={"image_ids": ",".join(wanted)})
    assert answer.status_code == 200
    assert [image["image_id"] for image in answer.json()["images"]] == wanted
    assert answer.json()["not_found"] == []
    assert {image["size"] for image in answer.json()["images"]} == {"medium"}


@pytest.mark.parametrize(
    ("unknown", "questions"),
    [(0, 1), (47, 2)],  # whose the unknown ones are is the audit's question, once the answer is sent
)
def test_a_batch_is_one_question_to_the_database(front, client, images, unknown, questions):
    asked = []

    def note(_connection, _cursor, statement, *_rest):
        asked.append(statement)

    engine = front.app.database._engine
    event.listen(engine, "before_cursor_execute", note)
    strangers = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(unknown)]
    answer = client.get(BATCH, params={"image_ids": ",".join([*images, *strangers])})
    event.remove(engine, "before_cursor_execute", note)
    assert len(answer.json()["images"]) == 3
    assert len([statement for statement in asked if "select" in statement.lower()]) == questions, asked


def test_an_image_in_a_batch_is_what_it_is_alone(client, images):
    batch = client.get(BATCH, params={"image_ids": images[0], "size": "thumbnail"}).json()
    assert batch["images"] == [client.get(f"/api/v1/images/{images[0]}?size=thumbnail").json()]


def test_blanks_and_repetitions_do_not_matter(client, images):
    text = f" {images[0]} ,,{images[1]}, {images[0]},"
    assert [i["image_id"] for i in client.get(BATCH, params={"image_ids": text}).json()["images"]] == images[
        :2
    ]


def test_what_is_not_to_be_had_is_listed(front, client, images):
    waiting = accepted(client)["image_id"]
    strangers = accepted(front.client("somebody else"))["image_id"]
    wanted = [UNKNOWN, images[0], waiting, strangers, "no id at all", "ü", "' or 1=1"]
    answer = client.get(BATCH, params={"image_ids": ",".join(wanted)}).json()
    assert [image["image_id"] for image in answer["images"]] == [images[0]]
    assert answer["not_found"] == [wanted[0], *wanted[2:]]


def test_fifty_are_answered_and_fifty_one_refused(client, images):
    unknown = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(51)]
    answer = client.get(BATCH, params={"image_ids": ",".join([*images, *unknown[:47]])})
    assert (len(answer.json()["images"]), len(answer.json()["not_found"])) == (3, 47)
    error = assert_refused(client.get(BATCH, params={"image_ids": ",".join(unknown)}), 422, "invalid_request")
    assert "51" in error["message"]


def test_fifty_one_of_which_two_are_the_same_are_fifty(client):
    wanted = [f"id{number}" for number in range(50)]
    assert client.get(BATCH, params={"image_ids": ",".join([*wanted, "id7"])}).status_code == 200


@pytest.mark.parametrize(
    "query", ["", "?image_ids=", "?image_ids=,%20,", "?size=medium", "?image_ids=" + "x" * 7000]
)
def test_a_batch_of_nothing_is_refused(client, query):
    assert_refused(client.get(f"{BATCH}{query}"), 422, "invalid_request")


def test_a_size_that_there_is_not_is_refused_with_those_there_are(client, images):
    answer = client.get(BATCH, params={"image_ids": images[0], "size": "gigantic"})
    assert assert_refused(answer, 404, "not_found")["details"]["known"][0] == "thumbnail"


def test_nobody_gets_what_is_somebody_elses(front, client, images):
    other = front.client("somebody else")
    job = accepted(client)
    for path in (
        job["status_url"],
        f"{job['status_url']}/result",
        f"/api/v1/images/{images[0]}",
        f"/api/v1/images/{images[0]}/all",
        f"/api/v1/images/{images[0]}/direct",
    ):
        theirs = assert_refused(other.get(path), 404, "not_found")
        unknown = path.replace(images[0], UNKNOWN).replace(job["job_id"], UNKNOWN)
        assert theirs == assert_refused(other.get(unknown), 404, "not_found"), "the two can be told apart"
    assert_refused(other.delete(f"/api/v1/images/{images[0]}"), 404, "not_found")
    assert other.get(BATCH, params={"image_ids": images[0]}).json() == {
        "images": [],
        "not_found": [images[0]],
    }
    assert client.get(f"/api/v1/images/{images[0]}").status_code == 200


def test_users_whose_names_look_alike_are_different(front):
    mine = accepted(front.client("me"))
    for name in ("ME", "me ", "me\x00", "m\u0435"):
        assert_refused(front.client(name).get(mine["status_url"]), 404, "not_found")


def test_an_image_is_deleted_even_while_its_storage_is_not_to_be_reached(front, client, images, monkeypatch):
    def fail(_key):
        raise StorageError("The disk is away.")

    with monkeypatch.context() as context:
        context.setattr(type(front.app.storage), "delete", lambda _self, key: fail(key))
        assert client.delete(f"/api/v1/images/{images[0]}").status_code == 204
    assert_refused(client.get(f"/api/v1/images/{images[0]}"), 404, "not_found")
    assert len(front.stored()) == 12, "the sweeper's work now"
