"""Every operation of the schema for everybody who may not ask for it: refused alike, and nothing told."""

import time

import jwt
import pytest

from integration.api.front import SECRET, Front, accepted, assert_refused, picture

AUDIENCE = "images"
SCOPES = {"upload", "read", "delete", "admin"}
BY_METHOD = {"get": "read", "post": "upload", "delete": "delete"}
FOR_ADMINS = {"/api/v1/health/stats", "/api/v1/health/failed"}
OPEN = {
    ("get", "/api/v1/health"),
    ("get", "/storage/{key}"),
    ("put", "/api/v1/images/uploads/{upload_id}/content"),
}
"""What asks for no token: the last has a signature."""
PAST, FUTURE = 1, int(time.time()) + 86_400


def signed(key=SECRET, algorithm="HS256", **claims):
    held = {"sub": "me", "aud": AUDIENCE, "scope": " ".join(sorted(SCOPES))} | claims
    return jwt.encode({name: value for name, value in held.items() if value is not None}, key, algorithm)


BAD = {
    "no token": None,
    "garbage": "garbage",
    "garbage of a token's form": "e30.e30.e30",
    "another scheme": f"Basic {signed()}",
    "expired": signed(exp=PAST),
    "not yet valid": signed(nbf=FUTURE),
    "issued tomorrow": signed(iat=FUTURE),
    "wrong key": signed(SECRET[::-1]),
    "no key": signed(None, "none"),
    "another algorithm": signed(2 * SECRET, "HS512"),
    "wrong audience": signed(aud="others"),
    "no audience": signed(aud=None),
    "no user": signed(sub=None),
    "a changed user": signed().replace(signed().split(".")[1], signed(sub="you").split(".")[1]),
    "too long": signed(more="x" * 9000),
}


class Estate:
    """What one user has, and every operation with the ids of it."""

    def __init__(self, folder):
        pictures = folder / "pictures"
        pictures.mkdir()
        webhook_secret = "whsec_" + "A" * 43 + "="
        self.front = Front(
            folder,
            {"jwt_audience": AUDIENCE, "file_roots": (pictures,), "webhook_secret": webhook_secret},
        )
        self.schema = self.front.api.openapi()
        mine = self.front.client(aud=AUDIENCE)
        image = accepted(mine)
        asked = {"input": f"file://{pictures}/none.png", "callback_url": "https://example.com/hook"}
        job_id = mine.post("/jobs", json=asked).json()["job_id"]
        thumbnails = mine.post("/images/upload", files={"image": picture((300, 200))}).json()
        self.front.work()
        direct = {"content_type": "image/jpeg", "size_bytes": 9000, "bucket": "tests"}
        upload = mine.post("/api/v1/images/uploads", json=direct).json()
        (delivery,) = mine.get(f"/jobs/{job_id}/deliveries").json()["deliveries"]
        self.ids = {
            "/jobs": {"job_id": job_id, "delivery_id": delivery["delivery_id"]},
            "/images": {"upload_id": thumbnails["uploadId"]},
            "/api/v1/images/uploads": {"upload_id": upload["upload_id"]},
            "/api/v1/images": {"job_id": image["job_id"], "image_id": image["image_id"]},
            "/storage": {"key": mine.get(f"/api/v1/images/{image['image_id']}").json()["url"][9:]},
        }
        self.told = {value for ids in self.ids.values() for value in ids.values()}

    def operations(self):
        """Method, template and description of each."""
        return [
            (method, path, operation)
            for path, item in self.schema["paths"].items()
            for method, operation in item.items()
        ]

    def guarded(self):
        """Those that ask for a token, with the scope that they say they need."""
        for method, path, operation in self.operations():
            if (method, path) not in OPEN:
                ((scope,),) = [list(*entry.values()) for entry in operation["security"]]
                yield method, path, scope

    def address(self, path):
        """The path with the ids of the user's own."""
        prefix = max((known for known in self.ids if path.startswith(known)), key=len, default="")
        image_id = self.ids["/api/v1/images"]["image_id"]
        query = f"?image_ids={image_id}" if path.endswith("/images/batch") else ""
        return path.format(**self.ids.get(prefix, {})) + query

    def ask(self, method, path, token):
        """The answer to a token, which may have a scheme before it."""
        headers = {} if token is None else {"Authorization": token if " " in token else f"Bearer {token}"}
        client = self.front.client(user=None)
        if method == "head":  # stands in no schema
            client.event_hooks["response"].clear()
        return client.request(method, self.address(path), headers=headers)


@pytest.fixture(scope="module")
def estate(tmp_path_factory):
    estate = Estate(tmp_path_factory.mktemp("matrix"))
    yield estate
    estate.front.close()


def test_every_operation_names_the_scope_that_it_needs(estate):
    guarded = list(estate.guarded())
    assert len(guarded) > 25
    for method, path, scope in guarded:
        assert scope == ("admin" if path in FOR_ADMINS else BY_METHOD[method]), (method, path)
    for method, path, operation in estate.operations():
        assert ((method, path) in OPEN) == ("security" not in operation), (method, path)
        assert ((method, path) in OPEN) or {"401", "403"} <= set(operation["responses"]), (method, path)


@pytest.mark.parametrize("token", BAD.values(), ids=BAD.keys())
def test_a_token_that_does_not_hold_is_401_everywhere(estate, token):
    challenge = "Bearer" if token is None or " " in token else 'Bearer error="invalid_token"'
    for method, path, _ in estate.guarded():
        answer = estate.ask(method, path, token)
        assert_refused(answer, 401, "not_authenticated")
        assert answer.headers["www-authenticate"] == challenge, (method, path)
        assert not [known for known in estate.told if known in answer.text], (method, path)
        if method == "get":
            assert estate.ask("head", path, token).status_code in (401, 405), path


def test_without_its_scope_a_token_is_403_everywhere_whatever_else_it_has(estate):
    for method, path, scope in estate.guarded():
        for others in (SCOPES - {scope}, set()):
            answer = estate.ask(method, path, signed(scope=" ".join(others)))
            error = assert_refused(answer, 403, "forbidden")
            assert error["details"] == {"scope": scope}, (method, path)
            challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
            assert answer.headers["www-authenticate"] == challenge


def test_a_token_without_scopes_has_all_but_admin(estate):
    for method, path, scope in estate.guarded():
        answer = estate.ask(method, path, signed(sub="nobody", scope=None))
        assert (answer.status_code == 403) == (scope == "admin"), (method, path)


def test_what_is_somebody_elses_is_404_and_what_is_listed_is_ones_own(estate):
    for method, path, scope in estate.guarded():
        answer = estate.ask(method, path, signed(sub="you", scope=scope))
        where = f"{method} {path}: {answer.status_code} {answer.text}"
        if "{" in path:
            assert_refused(answer, 404, "not_found")
        else:
            assert answer.status_code not in (401, 403), where
            assert answer.status_code < 500, where
        if path not in FOR_ADMINS and not path.endswith("/images/batch"):
            assert not [known for known in estate.told if known in answer.text], where
    batch = estate.ask("get", "/api/v1/images/batch", signed(sub="you"))
    assert batch.json()["images"] == []


def test_what_asks_for_no_token_looks_at_none(estate):
    for method, path in OPEN:
        answers = {
            estate.ask(method, path, token).status_code for token in (None, "garbage", signed(exp=PAST))
        }
        assert answers == {403 if method == "put" else 200}, path


def test_after_all_that_everything_is_where_it_was(estate):
    for path in ("/api/v1/images/{image_id}", "/jobs/{job_id}", "/images/{upload_id}"):
        assert estate.ask("get", path, signed(scope="read")).status_code == 200, path
