"""The audit over HTTP: one line for each refusal and deed, nothing secret in it, and never too many."""

import asyncio
import io
import json
import re
import sys
import time
from pathlib import Path

import jwt
import pytest

from image_processor import errors
from image_processor.api import audit
from image_processor.api.audit import (
    DEEDS_BY_ROUTE,
    LINES_EACH,
    LINES_TOGETHER,
    LOOKUPS_EACH,
    NOT_LOOKED_UP,
    REFUSALS,
    WINDOW_SECONDS,
    Audited,
    AuditTrail,
    Event,
    Note,
)
from image_processor.errors import TokenError, TokenFault
from image_processor.telemetry import AUDIT_LOGGER, log_events, subscribe
from image_processor.tokens.published_keys import PublishedKeys
from integration.api.front import SECRET, UNKNOWN, Front, accepted, picture, upload

AUDIENCE, ISSUER = "images", "https://issuer.example"
FUTURE = int(time.time()) + 86_400
BASE = {"event", "logger", "level", "timestamp", "outcome", "reason", "request_id", "user_id", "scope"}
FIELDS = BASE | {"method", "route", "http_status", "address"}
DOCUMENT = Path(__file__).parents[3] / "docs" / "reference" / "audit.md"


class Log:
    """Everything that is logged, and the lines of the audit in it."""

    def __init__(self, stream):
        self.stream = stream

    @property
    def text(self):
        return self.stream.getvalue()

    @property
    def lines(self):
        """Those of the audit; the others are for people."""
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]

    def clear(self):
        self.stream.seek(0)
        self.stream.truncate()


@pytest.fixture
def log(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    stop = log_events(json=False)
    yield Log(stream)
    stop()


@pytest.fixture(scope="module")
def estate(tmp_path_factory):
    """A front, and what `ada` has in it."""
    webhook_secret = "whsec_" + "A" * 43 + "="
    pictures = tmp_path_factory.mktemp("pictures")
    front = Front(
        tmp_path_factory.mktemp("audit"),
        {
            "jwt_audience": AUDIENCE,
            "jwt_issuer": ISSUER,
            "rate_limit_max_uploads": 6,
            "webhook_secret": webhook_secret,
            "file_roots": (pictures,),
        },
    )
    ada = client_of(front, "ada")
    image = accepted(ada, picture((200, 150)))
    thumbnails = ada.post("/images/upload", files={"image": picture((300, 200))}).json()
    asked = {"input": f"file://{pictures}/none.png", "callback_url": "https://example.com/hook"}
    job_id = ada.post("/jobs", json=asked).json()["job_id"]
    direct = {"content_type": "image/jpeg", "size_bytes": 900, "bucket": "tests"}
    ticket = ada.post("/api/v1/images/uploads", json=direct).json()
    front.work()
    (delivery,) = ada.get(f"/jobs/{job_id}/deliveries").json()["deliveries"]
    front.ids = image | {
        "thumbnails": thumbnails["uploadId"],
        "asked": job_id,
        "ticket": ticket,
        "delivery": delivery["delivery_id"],
    }
    yield front
    front.close()


@pytest.fixture
def front(estate, monkeypatch):
    """The same with a trail that remembers nothing."""
    monkeypatch.setattr(trail_of(estate), "_now", time.monotonic)
    trail_of(estate)._begin()
    return estate


def trail_of(front):
    """That of the application's own middleware."""
    front.api.middleware_stack = front.api.middleware_stack or front.api.build_middleware_stack()
    layer = front.api.middleware_stack
    while not isinstance(layer, Audited):
        layer = layer.app if hasattr(layer, "app") else layer._app
    return layer._trail


def client_of(front, user="ada", **claims):
    return front.client(user, **({"aud": AUDIENCE, "iss": ISSUER} | claims))


def signed(key=SECRET, algorithm="HS256", **claims):
    held = {"sub": "ada", "aud": AUDIENCE, "iss": ISSUER} | claims
    return jwt.encode({name: value for name, value in held.items() if value is not None}, key, algorithm)


TOKENS = {
    "missing": None,
    "not_a_bearer": f"Basic {signed()}",
    "too_long": signed(more="x" * 9000),
    "malformed": "garbage.of.theirs",
    "wrong_algorithm": signed(None, "none"),
    "bad_signature": signed(SECRET[::-1]),
    "expired": signed(exp=1),
    "not_yet_valid": signed(nbf=FUTURE),
    "wrong_audience": signed(aud="others"),
    "wrong_issuer": signed(iss="https://evil.example"),
    "missing_claim": signed(sub=None),
    "bad_claim": signed(scope=3),
}


def ask(front, token, method="GET", path=f"/jobs/{UNKNOWN}", **more):
    headers = {} if token is None else {"Authorization": token if " " in token else f"Bearer {token}"}
    return front.client(user=None).request(method, path, headers=headers, **more)


# Tokens


@pytest.mark.parametrize("reason", TOKENS)
def test_a_refused_token_is_one_line_that_says_why(front, log, reason):
    answer = ask(front, TOKENS[reason], path=f"/jobs/{UNKNOWN}?password=hunter2")
    assert answer.status_code == 401
    (line,) = log.lines
    assert set(line) == FIELDS | {"job_id"}
    told = {name: line[name] for name in ("event", "logger", "level", "outcome", "reason")}
    assert told == {
        "event": "audit.token.refused",
        "logger": AUDIT_LOGGER,
        "level": "warning",
        "outcome": "refused",
        "reason": reason,
    }
    assert (line["method"], line["route"], line["http_status"]) == ("GET", "/jobs/{job_id}", 401)
    assert (line["user_id"], line["scope"], line["address"]) == (None, "read", "127.0.0.1")
    assert line["request_id"] == answer.headers["x-request-id"]
    assert reason not in answer.text or reason in ("expired", "missing")
    assert "hunter2" not in log.text


def test_every_fault_of_a_token_is_told_as_such(front):
    assert set(TOKENS) | {TokenFault.UNKNOWN_KEY} == set(TokenFault)


def test_a_key_that_is_not_published_is_unknown():
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True) | {"kid": "theirs"}
    keys = PublishedKeys(lambda: json.dumps({"keys": [jwk]}).encode(), "ES256", refresh_seconds=60)
    keys.refresh("other").result(timeout=30)
    with pytest.raises(TokenError) as refusal:
        keys.candidates("other")
    assert refusal.value.fault is TokenFault.UNKNOWN_KEY


def test_a_token_that_holds_leaves_no_line(front, log):
    assert client_of(front).get(f"/jobs/{UNKNOWN}").status_code == 404
    assert client_of(front).get("/api/v1/images").status_code == 200
    assert ask(front, None, path="/api/v1/health").status_code == 200
    assert ask(front, None, path="/nowhere").status_code == 404
    assert log.lines == []


# Other refusals


def test_a_missing_scope_is_told_with_its_user(front, log):
    answer = client_of(front, "bob", scope="read").delete(f"/api/v1/images/{front.ids['image_id']}")
    assert answer.status_code == 403
    (line,) = log.lines
    assert (line["event"], line["reason"]) == ("audit.scope.refused", "missing_scope")
    assert (line["user_id"], line["scope"]) == ("bob", "delete")
    assert line["image_id"] == front.ids["image_id"]


def others(ids):
    """Requests for what is ada's, each with the id that it is about."""
    images, direct = (
        f"/api/v1/images/{ids['image_id']}",
        f"/api/v1/images/uploads/{ids['ticket']['upload_id']}",
    )
    return [
        ("GET", images, "image_id", ids["image_id"]),
        ("DELETE", images, "image_id", ids["image_id"]),
        ("GET", f"/api/v1/images/jobs/{ids['job_id']}", "job_id", ids["job_id"]),
        ("GET", f"/jobs/{ids['job_id']}/events", "job_id", ids["job_id"]),
        ("GET", f"/images/{ids['thumbnails']}", "upload_id", ids["thumbnails"]),
        ("GET", direct, "upload_id", ids["ticket"]["upload_id"]),
        ("POST", f"/jobs/{UNKNOWN}/deliveries/{ids['delivery']}/replay", "delivery_id", ids["delivery"]),
    ]


@pytest.mark.parametrize("number", range(7))
def test_what_is_somebody_elses_is_404_for_them_and_told_to_us(front, log, number):
    method, path, name, known = others(front.ids)[number]
    theirs = client_of(front, "bob").request(method, path)
    unknown = client_of(front, "bob").request(method, path.replace(known, UNKNOWN))
    assert theirs.status_code == unknown.status_code == 404
    assert theirs.content == unknown.content
    (line,) = log.lines
    assert (line["event"], line["reason"]) == ("audit.id.refused", "somebody_elses")
    assert (line["user_id"], line["http_status"], line[name], line["count"]) == ("bob", 404, known, 1)


def test_ids_of_others_in_a_list_are_told(front, log):
    ids = [UNKNOWN, front.ids["image_id"], front.ids["thumbnails"], "x\n{}"]
    answer = client_of(front, "bob").get("/api/v1/images/batch", params={"image_ids": ",".join(ids)})
    assert answer.json()["not_found"] == ids
    (line,) = log.lines
    assert (line["event"], line["http_status"], line["count"]) == ("audit.id.refused", 200, 2)
    assert line["image_id"] == front.ids["image_id"]


def test_an_id_of_ones_own_that_is_gone_is_no_event(front, log):
    client = client_of(front, "carl")
    image = accepted(client, picture((120, 90)))
    path = f"/api/v1/images/{image['image_id']}"
    assert [client.delete(path).status_code for _ in range(2)] == [204, 404]
    assert [line["event"] for line in log.lines] == ["audit.image.deleted"]


def test_a_used_up_limit_is_told(front, log):
    client = client_of(front, "dora")
    for number in range(6):
        accepted(client, picture((100 + number, 90)))
    assert upload(client).status_code == 429
    (line,) = log.lines
    assert (line["event"], line["reason"], line["user_id"]) == ("audit.rate.refused", "rate_limited", "dora")


@pytest.mark.parametrize(
    ("request_", "reason", "status"),
    [
        (("POST", "/api/v1/images/upload", {"files": {"file": b"text"}}), "unsupported_format", 415),
        (("POST", "/images/upload", {"files": {"image": b"text"}}), "unsupported_format", 400),
        (("POST", "/images/upload", {"files": {"image": picture((9, 9))}}), "image_too_small", 400),
        (
            ("POST", "/api/v1/images/upload", {"headers": {"Content-Length": "99999999999"}}),
            "file_too_large",
            413,
        ),
        (("POST", "/jobs", {"json": {"input": "https://127.0.0.1/x"}}), "address_refused", 422),
        (("GET", "/jobs", {"params": {"limit": "0\n{}"}}), "invalid_request", 422),
        (("GET", "/api/v1/images", {"params": {"cursor": "forged"}}), "invalid_request", 422),
    ],
)
def test_what_is_refused_for_what_is_in_it_is_told_by_its_code(front, log, request_, reason, status):
    method, path, more = request_
    if "files" in more and path.startswith("/api"):
        more = {**more, "data": {"bucket": "tests"}}
    answer = client_of(front, "eve").request(method, path, **more)
    assert answer.status_code == status, answer.text
    (line,) = log.lines
    assert (line["event"], line["reason"]) == ("audit.request.refused", reason)
    assert (line["http_status"], line["user_id"], line["route"]) == (status, "eve", path)


def test_each_refused_file_of_a_batch_is_told_and_no_name_of_one(front, log):
    files = [("files", ("a\nb.jpg", b"text")), ("files", ("ok.png", picture((50, 50), "PNG")))]
    answer = client_of(front, "fred").post("/api/v1/images/batch", files=files, data={"bucket": "tests"})
    assert answer.status_code == 207
    (line,) = log.lines
    assert (line["reason"], line["http_status"]) == ("unsupported_format", 207)
    assert "b.jpg" not in log.text


def test_a_changed_address_of_a_direct_upload_is_told_without_its_signature(front, log):
    url = front.ids["ticket"]["url"]
    signature = re.search(r"signature=([^&]+)", url)[1]
    changed = url.replace(signature, signature[::-1])
    answer = ask(front, None, "PUT", changed, content=b"x")
    assert answer.status_code == 403
    (line,) = log.lines
    assert (line["event"], line["reason"]) == ("audit.address.refused", "upload_address_refused")
    assert line["upload_id"] == front.ids["ticket"]["upload_id"]
    assert signature not in log.text
    assert signature[::-1] not in log.text


# Deeds


def test_what_administrators_read_is_told(front, log):
    admin = client_of(front, "root", scope="admin")
    for path in ("/api/v1/health/stats", "/api/v1/health/failed"):
        assert admin.get(path).status_code == 200
    assert [(line["event"], line["outcome"], line["reason"], line["user_id"]) for line in log.lines] == [
        ("audit.service.read", "done", None, "root")
    ] * 2
    assert {line["level"] for line in log.lines} == {"info"}


def test_a_delivery_that_is_replayed_is_told_and_bounded(front, log):
    path = f"/jobs/{front.ids['asked']}/deliveries/{front.ids['delivery']}/replay"
    for _ in range(LINES_EACH + 3):  # it still waits to be sent, so nothing is charged
        assert client_of(front).post(path).status_code == 202
    assert [line["event"] for line in log.lines] == ["audit.delivery.replayed"] * LINES_EACH
    assert log.lines[0]["delivery_id"] == front.ids["delivery"]


def test_every_operation_that_deletes_or_is_for_admins_is_told(front):
    operations = front.api.openapi()["paths"]
    for method, path in DEEDS_BY_ROUTE:
        assert method.lower() in operations[path]
    scopes = {scope for item in operations.values() for operation in item.values()
              for entry in operation.get("security", []) for scope in next(iter(entry.values()))}  # fmt: skip
    assert {"delete", "admin"} <= scopes


# Forgeries


FORGERY = '"}\r\n{"event": "audit.image.deleted", "user_id": "ada"}\u2028\x1b[2J\x00'


def test_nobody_forges_a_line(front, log):
    evil = f"e{FORGERY}"[:200]
    client = client_of(front, evil)
    client.delete(f"/api/v1/images/{front.ids['image_id']}")
    client.get("/jobs/%0a%7B%22event%22%3A1%7D%0a")
    client.get("/jobs/" + "x%0a" * 500)
    client.get("/api/v1/images", params={"status": FORGERY})
    client.get("/api/v1/images", headers={"X-Request-ID": "mine", "X-Forwarded-For": "evil"})
    client.request("GET", "/api/v1/images/batch", params={"image_ids": FORGERY})
    assert upload(client, b"text", priority=FORGERY).status_code == 415
    raw = log.text.splitlines()
    assert all(json.loads(line)["logger"] == AUDIT_LOGGER for line in raw if "audit" in line)
    assert {line["user_id"] for line in log.lines} == {evil}
    assert [line["event"] for line in log.lines] == [
        "audit.id.refused",
        "audit.request.refused",
        "audit.request.refused",
    ]
    assert log.text.isascii()
    assert not set(log.text) & {chr(code) for code in range(32) if chr(code) != "\n"}
    assert max(map(len, raw)) < 4096
    assert not {line["request_id"] for line in log.lines} & {"mine"}


@pytest.mark.parametrize("peer", [("evil\n{}", 1), ("", 0), None, ("fe80::1%" + "x\n" * 99, 1)])
def test_an_address_is_an_address_or_nothing(peer):
    heard = []
    note = Note(refusals=[errors.AuthenticationError("No.")])
    scope = {"type": "http", "method": "G\nT", "client": peer, "path_params": {"job_id": "\n"}}
    end = subscribe(lambda _event, fields: heard.append(fields))
    asyncio.run(AuditTrail(lambda _ids: {}).tell(scope, note, 401))
    end()
    (fields,) = heard
    assert fields["address"] in (None, "fe80::1")
    assert (fields["method"], fields["route"]) == ("other", None)
    assert "job_id" not in fields


# Floods


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def heard():
    told = []
    end = subscribe(lambda event, fields: told.append((event, fields)))
    yield told
    end()


async def refuse(trail, sender, error, times=1, user=None):
    scope = {"type": "http", "method": "GET", "client": (sender, 1), "path_params": {"job_id": UNKNOWN}}
    for _ in range(times):
        await trail.tell(scope, Note(refusals=[error], user_id=user), error.status)


def test_a_flood_is_told_in_a_few_lines_and_counted_whole(heard):
    async def flood():
        clock = Clock()
        trail = AuditTrail(lambda _ids: {}, now=clock)
        missing, forged = errors.AuthenticationError("No."), TokenError("No.")
        await refuse(trail, "10.0.0.1", missing, 1000)
        assert len(heard) == LINES_EACH
        for number in range(1000):
            await refuse(trail, f"10.1.{number // 250}.{number % 250}", missing)
        assert len(heard) == LINES_TOGETHER
        await refuse(trail, "10.0.0.1", forged)
        assert heard[-1][1]["reason"] == "malformed"  # one flood does not hide another kind
        assert len(trail._lines._told) <= LINES_TOGETHER + 1
        clock.seconds = WINDOW_SECONDS
        await refuse(trail, "10.0.0.1", missing)

    asyncio.run(flood())
    (summary,) = [fields for event, fields in heard if event == Event.LINES_LEFT_OUT]
    assert summary == {
        "outcome": "counted",
        "of": "audit.token.refused",
        "reason": "missing",
        "count": 2000 - LINES_TOGETHER,
        "seconds": WINDOW_SECONDS,
    }
    assert heard[-1][0] == Event.TOKEN_REFUSED  # a new window begins


def test_what_was_left_out_is_told_though_nobody_comes_any_more(heard, monkeypatch):
    monkeypatch.setattr(audit, "WINDOW_SECONDS", 0.05)

    async def flood():
        counted = asyncio.Event()
        end = subscribe(lambda event, _fields: counted.set() if event == Event.LINES_LEFT_OUT else None)
        trail = AuditTrail(lambda _ids: {})
        await refuse(trail, "10.0.0.1", errors.AuthenticationError("No."), LINES_EACH + 2)
        await asyncio.wait_for(counted.wait(), 30)
        end()

    asyncio.run(flood())


def test_what_was_left_out_is_told_at_the_end(heard):
    async def live_and_end():
        trail = AuditTrail(lambda _ids: {}, now=Clock())

        async def application(_scope, _receive, _send):
            await refuse(trail, "10.0.0.1", errors.AuthenticationError("No."), LINES_EACH + 2)

        await Audited(application, trail)({"type": "lifespan"}, None, None)

    asyncio.run(live_and_end())
    assert heard[-1][0] == Event.LINES_LEFT_OUT
    assert heard[-1][1]["count"] == 2


def test_looking_up_whose_ids_are_is_bounded(heard):
    asked = []

    async def flood():
        trail = AuditTrail(lambda ids: asked.append(ids) or {}, now=Clock())
        await refuse(trail, "10.0.0.1", errors.NotFoundError("No."), LOOKUPS_EACH + 7, user="bob")
        trail.flush()

    asyncio.run(flood())
    assert len(asked) == LOOKUPS_EACH
    ((event, fields),) = heard
    assert event == Event.LINES_LEFT_OUT
    assert (fields["reason"], fields["count"]) == (NOT_LOOKED_UP, 7)


def test_a_database_that_is_away_costs_a_line_and_no_answer(heard):
    def away(_ids):
        raise errors.UnavailableError("The database is busy.")

    asyncio.run(refuse(AuditTrail(away), "10.0.0.1", errors.NotFoundError("No."), user="bob"))
    assert [event for event, _ in heard] == ["audit.lookup.failed"]


# The document


def told(heading):
    """The first cells of the table below a heading, or the codes of its paragraph."""
    text = re.split(r"^#+ ", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    section = next(part for part in text if part.startswith(heading))
    return set(re.findall(r"^\| `([a-z_.]+)` \|", section, re.MULTILINE)), section


def test_the_document_has_every_event_and_every_reason():
    assert told("Events")[0] == set(Event)
    assert told("Tokens")[0] == set(TokenFault)
    for kind, event in REFUSALS:
        if event in (Event.RATE_REFUSED, Event.ADDRESS_REFUSED):
            assert f"`{kind.code}`" in told("Events")[1]
    paragraph = told("Requests")[1].partition(": ")[2].partition("\n")[0]
    assert set(re.findall(r"`(\w+)`", paragraph)) == codes_of(Event.REQUEST_REFUSED)


def codes_of(event):
    def below(kind):
        return {kind.code} | {code for child in kind.__subclasses__() for code in below(child)}

    return {code for kind, told_as in REFUSALS if told_as is event for code in below(kind)}


def test_the_document_has_every_field(front, log):
    ask(front, None)
    documented = set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", told("Fields")[1], re.MULTILINE)))
    )
    assert FIELDS | {*audit.PATH_IDS, "count"} == documented
    assert set(log.lines[0]) <= documented


# Everything at once


@pytest.mark.slow
def test_no_secret_is_in_any_log_of_the_whole_matrix(front, log, monkeypatch):
    monkeypatch.setattr(audit, "LINES_EACH", 10**6)
    monkeypatch.setattr(audit, "LINES_TOGETHER", 10**6)
    trail_of(front)._begin()
    guarded = [
        (method.upper(), path, operation)
        for path, item in front.api.openapi()["paths"].items()
        for method, operation in item.items()
        if "security" in operation
    ]
    assert len(guarded) > 25
    for method, path, _ in guarded:
        for token in TOKENS.values():
            answer = ask(front, token, method, re.sub(r"\{\w+\}", UNKNOWN, path) + "?key=hunter2")
            assert answer.status_code == 401, (method, path)
    lines = log.lines
    assert len(lines) == len(guarded) * len(TOKENS)
    assert {line["route"] for line in lines} == {path for _, path, _ in guarded}
    assert {line["reason"] for line in lines} == set(TOKENS)
    assert len({line["request_id"] for line in lines}) == len(lines)
    parts = {part for token in TOKENS.values() if token for part in token.split() if len(part) > 8}
    signatures = {token.rpartition(".")[2] for token in parts} - {"", "theirs"}
    for secret in {SECRET, SECRET[::-1], "hunter2", "whsec_"} | parts | signatures:
        assert secret not in log.text
