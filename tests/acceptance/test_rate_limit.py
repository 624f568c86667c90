"""Uploads of one user, all at the same time, at several processes on one database: as many pass as may."""

import hashlib
import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path

import jwt
import pytest

from flood import BOUNDARY, LoneApi, Request
from image_processor.jobs import Database
from image_processor.jobs.clock import statement
from image_processor.testing import sample_images

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECRET = "a secret of these processes, as long as it has to be"
PROCESSES = {"sqlite": 2, "postgresql": 3}
LIMIT = 50
UPLOADS = 200
AT_EACH_DOOR = 20
PATIENCE_SECONDS = 60
HELD_BACK = 8
"""Bytes at the end of each body, sent when all bodies are on their way."""
PICTURE = sample_images.photo(120, 100)
ROWS = statement("""
select
  (select count(*) from processing_jobs where user_id = :user_id) as jobs,
  (select count(*) from images where user_id = :user_id) as images,
  (select count(*) from idempotency_keys where user_id = :user_id) as keys,
  (select sum(upload_count) from upload_rate_limits where user_id = :user_id) as taken
""")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: dict

    @property
    def remaining(self) -> int:
        return int(self.headers["x-ratelimit-remaining"])


@dataclass
class Site:
    """Several API processes with one database and one folder; nobody works."""

    folder: Path
    database: Database
    apis: list[LoneApi]
    window_seconds: int
    connections: list[HTTPConnection] = field(default_factory=list)

    def begin(self, user: str, request: Request, *, method: str = "POST") -> HTTPConnection:
        """Send a request but for its end, to one process after the other."""
        api = self.apis[len(self.connections) % len(self.apis)]
        connection = HTTPConnection("127.0.0.1", api.port, timeout=PATIENCE_SECONDS)
        self.connections.append(connection)
        connection.putrequest(method, request.path)
        for name, value in _headers(user, request).items():
            connection.putheader(name, value)
        connection.endheaders(request.body[:-HELD_BACK])
        return connection

    def ask(self, user: str, request: Request, *, method: str = "POST") -> Answer:
        return self.end([(self.begin(user, request, method=method), request)])[0]

    def end(self, begun: list[tuple[HTTPConnection, Request]]) -> list[Answer]:
        """Send the ends of all, then read what each is answered."""
        for connection, request in begun:
            connection.send(request.body[-HELD_BACK:])
        return [_answer(connection) for connection, _ in begun]

    def staged(self) -> set[str]:
        return {path.name for path in (self.folder / "data" / "staging").iterdir()}

    def wait_until_staged(self, count: int) -> None:
        """Until so many bodies are being written: their requests have passed the look at the limit."""
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while len(self.staged()) < count:
            assert time.monotonic() < ends_at, f"{len(self.staged())} of {count} are on their way"
            time.sleep(0.02)

    def rows(self, user: str) -> dict[str, int]:
        """What the tables have of the user."""
        with self.database.read() as connection:
            return dict(connection.execute(ROWS, {"user_id": user}).mappings().one())

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


def _headers(user: str, request: Request) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {jwt.encode({'sub': user}, SECRET, 'HS256')}",
        "Content-Type": request.content_type,
        "Content-Length": str(len(request.body)),
        "Idempotency-Key": hashlib.sha256(request.body).hexdigest(),
    }


def _answer(connection: HTTPConnection) -> Answer:
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, json.loads(response.read() or b"{}"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request, tmp_path_factory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp(request.param)
    window_minutes = _window_minutes()
    environment = {
        "AUTH_REQUIRED": "true",
        "JWT_SECRET_KEY": SECRET,
        "RATE_LIMIT_MAX_UPLOADS": str(LIMIT),
        "RATE_LIMIT_WINDOW_MINUTES": str(window_minutes),
        "FILE_ROOTS": str(folder / "inputs"),
    }
    where: Path | str = folder / "data" / "processor.db"
    with ExitStack() as stack:
        if request.param == "postgresql":
            postgres = request.getfixturevalue("postgres")
            environment["DATABASE_URL"] = where = postgres.new_database()
            stack.callback(postgres.drop_database, where)
        apis = [LoneApi(folder, environment) for _ in range(PROCESSES[request.param])]
        with ThreadPoolExecutor() as together:
            list(together.map(stack.enter_context, apis))
        database = stack.enter_context(closing(Database.open(where)))
        yield stack.enter_context(closing(Site(folder, database, apis, window_minutes * 60)))


def _window_minutes() -> int:
    """An hour, as by default; a little more where the hour would end while the tests run."""
    now = time.time()
    return next(minutes for minutes in (60, 61, 67) if now % (minutes * 60) < (minutes - 2) * 60)


def upload(number: int, path: str = "/api/v1/images/upload", name: str = "file") -> Request:
    """An upload of a picture that no other number has."""
    picture = PICTURE[:2] + b"\xff\xfe\x00\x06" + number.to_bytes(4) + PICTURE[2:]
    made = Request.upload(picture, bucket="tests")
    return replace(made, path=path, body=made.body.replace(b'name="file"', f'name="{name}"'.encode()))


def job(site: Site, number: int) -> Request:
    operations = [{"op": "resize", "width": 10 + number}]
    return Request.job(input=(site.folder / "inputs" / "a.jpg").as_uri(), operations=operations)


def direct(site: Site, user: str, number: int) -> Request:
    """The completion of a direct upload whose bytes have come."""
    picture = upload(number).body  # what it is, is looked at only when it completes
    picture = picture[picture.index(PICTURE[:2]) : -len(f"\r\n--{BOUNDARY}--\r\n")]
    asked = {"content_type": "image/jpeg", "size_bytes": len(picture), "bucket": "tests"}
    ticket = site.ask(
        user, Request("/api/v1/images/uploads", "application/json", json.dumps(asked).encode())
    ).body
    path = "/api/v1/images/uploads/" + ticket["url"].partition("/api/v1/images/uploads/")[2]
    sent = site.ask(user, Request(path, "image/jpeg", picture), method="PUT")
    assert sent.status == 204, sent
    return Request(ticket["complete_url"], "application/json", b"")


def check_refusal(site: Site, answer: Answer) -> None:
    assert answer.status == 429, answer
    assert answer.body["error"]["code"] == "rate_limited"
    assert answer.headers["x-ratelimit-limit"] == str(LIMIT)
    assert answer.remaining == 0
    reset = datetime.fromisoformat(answer.headers["x-ratelimit-reset"])
    assert reset.timestamp() % site.window_seconds == 0
    until = (reset - datetime.now(UTC)).total_seconds()
    assert 0 < until <= int(answer.headers["retry-after"]) <= until + PATIENCE_SECONDS


def check_accepted(answers: list[Answer]) -> None:
    """As many as may, each told another number of what is left."""
    assert len(answers) == LIMIT
    assert sorted(answer.remaining for answer in answers) == list(range(LIMIT))


def test_of_two_hundred_uploads_at_once_fifty_pass(site):
    before = site.staged()
    hers = [upload(number) for number in range(UPLOADS)]
    others = [upload(number) for number in range(UPLOADS, UPLOADS + 5)]
    begun = [(site.begin("ada", request), request) for request in hers]
    for place, request in enumerate(others):
        begun.insert(place * UPLOADS // len(others), (site.begin("bob", request), request))
    site.wait_until_staged(len(before) + len(begun))
    started = time.monotonic()
    answers = dict(zip((request for _, request in begun), site.end(begun), strict=True))
    seconds = time.monotonic() - started
    assert [answers[request].status for request in others] == [202] * len(others)
    accepted = [request for request in hers if answers[request].status == 202]
    check_accepted([answers[request] for request in accepted])
    assert len({answers[request].body["job_id"] for request in accepted}) == LIMIT
    for request in set(hers) - set(accepted):
        check_refusal(site, answers[request])
    assert site.rows("ada") == dict.fromkeys(("jobs", "images", "keys", "taken"), LIMIT)
    assert len(site.staged() - before) == LIMIT + len(others)
    check_refusal(site, site.ask("ada", upload(UPLOADS * 2)))
    again = site.ask("ada", accepted[0])
    assert (again.status, again.body) == (202, answers[accepted[0]].body)
    print(f"\n{site.database}: {len(begun)} answers in {seconds:.2f} s, {len(begun) / seconds:.0f}/s")


def test_every_door_draws_on_the_same_window(site):
    before = site.staged()
    numbers = range(AT_EACH_DOOR)
    uploads = [upload(number) for number in numbers]
    uploads += [upload(100 + number, "/api/v1/images/batch", "files") for number in numbers]
    uploads += [upload(200 + number, "/images/upload", "image") for number in numbers]
    jobs = [job(site, number) for number in numbers]
    completions = [direct(site, "eve", 300 + number) for number in numbers]
    begun = [(site.begin("eve", request), request) for request in (*uploads, *jobs)]
    site.wait_until_staged(len(before) + len(uploads))
    begun += [(site.begin("eve", request), request) for request in completions]
    random.Random(6).shuffle(begun)
    answers = site.end(begun)
    check_accepted([answer for answer in answers if answer.status == 202])
    for answer in answers:
        if answer.status == 207:
            assert [file["error"]["code"] for file in answer.body["files"]] == ["rate_limited"]
        elif answer.status != 202:
            check_refusal(site, answer)
    assert site.rows("eve") == dict.fromkeys(("jobs", "images", "keys", "taken"), LIMIT)
