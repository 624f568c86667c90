"""What holds for every answer: headers, CORS, the schema, and that it is the truth."""

import base64
import json

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from image_processor.telemetry import subscribe
from integration.api.announced import responses
from integration.api.front import UNKNOWN, Front, accepted, assert_refused, picture, token, upload

SMALL = picture((20, 20), "PNG")
PATHS = {
    ("POST", "/api/v1/images/upload"),
    ("POST", "/api/v1/images/batch"),
    ("POST", "/images/upload"),
    ("GET", "/images/{upload_id}"),
    ("POST", "/api/v1/images/uploads"),
    ("GET", "/api/v1/images/uploads/{upload_id}"),
    ("POST", "/api/v1/images/uploads/{upload_id}/complete"),
    ("PUT", "/api/v1/images/uploads/{upload_id}/content"),
    ("GET", "/api/v1/images/jobs/{job_id}"),
    ("GET", "/api/v1/images/jobs/{job_id}/result"),
    ("GET", "/api/v1/images/jobs/{job_id}/events"),
    ("POST", "/jobs"),
    ("GET", "/jobs"),
    ("GET", "/jobs/failed"),
    ("GET", "/jobs/{job_id}"),
    ("GET", "/jobs/{job_id}/events"),
    ("POST", "/jobs/{job_id}/retry"),
    ("POST", "/jobs/{job_id}/cancel"),
    ("GET", "/jobs/{job_id}/deliveries"),
    ("POST", "/jobs/{job_id}/deliveries/{delivery_id}/replay"),
    ("GET", "/api/v1/images"),
    ("GET", "/api/v1/images/batch"),
    ("GET", "/api/v1/images/{image_id}"),
    ("DELETE", "/api/v1/images/{image_id}"),
    ("GET", "/api/v1/images/{image_id}/all"),
    ("GET", "/api/v1/images/{image_id}/direct"),
    ("GET", "/api/v1/health"),
    ("GET", "/api/v1/health/stats"),
    ("GET", "/api/v1/health/failed"),
    ("GET", "/storage/{key}"),
}

OPEN = {"/api/v1/health", "/storage/{key}", "/api/v1/images/uploads/{upload_id}/content"}
"""What asks for no token: the last has a signature."""


@pytest.fixture
def schema(client):
    return client.get("/openapi.json").json()


def operations(schema):
    return [
        (method.upper(), path, operation)
        for path, item in schema["paths"].items()
        for method, operation in item.items()
    ]


def test_the_schema_has_the_paths_that_are_promised(schema):
    assert {(method, path) for method, path, _ in operations(schema)} == PATHS


def test_the_schema_is_the_same_each_time_and_has_no_id_twice(front, schema):
    ids = [operation["operationId"] for _, _, operation in operations(schema)]
    assert len(set(ids)) == len(ids)
    assert json.loads(json.dumps(front.api.openapi())) == schema


def test_every_operation_says_what_it_does_and_how_it_is_refused(schema):
    error = {"$ref": "#/components/schemas/ErrorBody"}
    for method, path, operation in operations(schema):
        assert operation["description"], (method, path)
        for status, response in responses(schema, operation).items():
            if status >= "400" and (path, status) != ("/api/v1/health", "503"):
                content = response["content"]["application/json"]["schema"]
                assert content == error, (method, path, status)
        if path not in OPEN:
            assert operation["security"], (method, path)
            assert "401" in operation["responses"], (method, path)


def test_the_schema_is_valid_openapi(schema):
    assert schema["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(schema).iter_errors()) == []


def bodies(schema):
    """Where it is, and the media type object of every body that is asked for or answered."""
    for method, path, operation in operations(schema):
        for name, media in operation.get("requestBody", {}).get("content", {}).items():
            yield (method, path, name), media
        for status, response in responses(schema, operation).items():
            for name, media in response.get("content", {}).items():
                yield (method, path, status, name), media


def test_every_body_has_an_example_that_it_allows(schema):
    for where, media in bodies(schema):
        if media["schema"].get("format") == "binary":  # pictures
            continue
        told = media.get("examples", {"": {"value": media.get("example")}})
        fields = dict(media["schema"])
        if where[-1] == "multipart/form-data":
            fields["required"] = [
                name for name in fields["required"] if name not in {"file", "files", "image"}
            ]
        judge = Draft202012Validator(fields | {"components": schema["components"]})
        for example in told.values():
            faults = [fault.message for fault in judge.iter_errors(example["value"])]
            assert faults == [], where


def test_every_parameter_that_has_to_be_there_has_an_example(schema):
    bare = [
        (method, path, parameter["name"])
        for method, path, operation in operations(schema)
        for parameter in operation.get("parameters", [])
        if parameter["required"] and "examples" not in parameter["schema"]
    ]
    assert bare == []


def test_every_answer_that_leads_on_names_operations_and_parameters_that_there_are(schema):
    known = {operation["operationId"]: operation for _, _, operation in operations(schema)}
    links = [
        link
        for _, _, operation in operations(schema)
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    ]
    assert len(links) > 40
    for link in links:
        names = {parameter["name"] for parameter in known[link["operationId"]]["parameters"]}
        assert set(link["parameters"]) <= names


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/v1/images/batch", "GET, POST"),
        ("/api/v1/images/upload", "POST"),
        ("/jobs", "GET, POST"),
        (f"/api/v1/images/{UNKNOWN}", "DELETE, GET"),
    ],
)
def test_a_method_that_there_is_not_is_told_those_of_all_routes_of_the_path(client, path, allowed):
    answer = client.patch(path)
    assert_refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("instant", ["-1.4e-45", "0", "1794146400"])
def test_an_instant_is_written_out(client, instant):
    assert_refused(client.get(f"/jobs?created_after={instant}"), 422, "invalid_request")


def test_the_schema_knows_the_form(schema):
    upload_form = schema["paths"]["/api/v1/images/upload"]["post"]["requestBody"]["content"]
    fields = upload_form["multipart/form-data"]["schema"]
    assert fields["required"] == ["file", "bucket"]
    assert set(fields["properties"]) == {
        *("file", "bucket", "metadata", "preset"),
        *("priority", "callback_url", "reuse"),
    }


def test_the_documentation_is_there(front):
    nobody = front.client(user=None)
    answer = nobody.get("/docs")
    assert answer.status_code == 200
    assert "/openapi.json" in answer.text
    assert nobody.get("/openapi.json").status_code == 200


def test_every_answer_forbids_guessing_its_type(front, client):
    job = accepted(client)
    front.work()
    image = f"/api/v1/images/{job['image_id']}"
    url = client.get(image).json()["url"]
    nobody = front.client(user=None)
    answers = [
        upload(client),
        upload(client, b"text"),
        client.get(job["status_url"]),
        client.get(f"{job['status_url']}/result"),
        client.get(f"{image}/direct"),
        client.get(url),
        client.head(url),
        client.get(url, headers={"Range": "bytes=0-3"}),
        client.get(url, headers={"Range": "bytes=9999999-"}),
        client.get(url, headers={"If-None-Match": "*"}),
        client.get("/docs"),
        client.get("/openapi.json"),
        client.get("/nowhere"),
        client.get("/api/v1/health/"),
        client.put("/api/v1/health"),
        client.options("/api/v1/health"),
        nobody.get(image),
        client.delete(image),
    ]
    assert {answer.status_code for answer in answers} >= {
        200,
        202,
        204,
        206,
        304,
        307,
        401,
        404,
        405,
        415,
        416,
    }
    assert [
        str(a.request.url) for a in answers if a.headers.get_list("x-content-type-options") != ["nosniff"]
    ] == []


def test_every_answer_says_what_browsers_and_caches_may_do(front, client):
    job = accepted(client)
    front.work()
    url = client.get(f"/api/v1/images/{job['image_id']}").json()["url"]
    answers = [client.get(path) for path in (job["status_url"], url, "/docs", "/nowhere", "/storage/none")]
    for answer in answers:
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
    status, file, docs, unknown, _ = answers
    policies = [answer.headers["content-security-policy"] for answer in answers]
    assert policies[0] == policies[3] == "default-src 'none'; frame-ancestors 'none'"
    assert "frame-ancestors 'none'" in docs.headers["content-security-policy"]
    assert "sandbox" in file.headers["content-security-policy"]
    assert file.headers["cross-origin-resource-policy"] == "cross-origin"
    assert status.headers["cross-origin-resource-policy"] == "same-origin"
    assert status.headers["cache-control"] == unknown.headers["cache-control"] == "no-store"
    assert file.headers["cache-control"].startswith("public, max-age=31536000")


def test_a_failure_of_ours_forbids_it_too_and_has_a_name(front, monkeypatch):
    def fail(*_arguments):
        raise RuntimeError("a bug")

    monkeypatch.setattr(type(front.app.service), "job", fail)
    client = front.client(raises=False)
    client.event_hooks["response"].clear()
    told = []
    stop = subscribe(lambda event, fields: told.append({"event": event, **fields}))
    answer = client.get(f"/api/v1/images/jobs/{UNKNOWN}")
    stop()
    assert_refused(answer, 500, "internal_error")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    failure = next(line for line in told if line["event"] == "request.failed")
    assert failure["request_id"] == answer.headers["x-request-id"]


ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    front = Front(tmp_path_factory.mktemp("shared"), {"cors_origins": (ORIGIN,)})
    yield front
    front.close()


def preflight(client, origin, method="POST", headers="authorization"):
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }
    return client.options("/api/v1/images/upload", headers=asked)


def test_no_page_of_others_may_call_unless_it_is_said_so(client):
    answer = client.get("/api/v1/health", headers={"Origin": ORIGIN})
    assert "access-control-allow-origin" not in answer.headers
    refused = preflight(client, ORIGIN)
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_page_of_ones_own_may_call(shared, method):
    client = shared.client()
    answer = preflight(client, ORIGIN, method, "authorization, content-type")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert method in answer.headers["access-control-allow-methods"]


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://app.example", f"{ORIGIN}.evil.example", "null", f"{ORIGIN}:8443"],
)
def test_other_pages_may_not(shared, origin):
    client = shared.client()
    assert "access-control-allow-origin" not in preflight(client, origin).headers
    assert (
        "access-control-allow-origin" not in client.get("/api/v1/health", headers={"Origin": origin}).headers
    )


def test_a_page_can_read_the_limits_and_the_errors(shared):
    client = shared.client()
    answer = upload(client, SMALL)
    assert "access-control-expose-headers" not in answer.headers
    client.headers["Origin"] = ORIGIN
    answer = upload(client, SMALL)
    for name in ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After"):
        assert name in answer.headers["access-control-expose-headers"]
    refused = upload(client, b"text")
    assert_refused(refused, 415, "unsupported_format")
    assert refused.headers["access-control-allow-origin"] == ORIGIN


def test_without_tokens_everybody_is_the_development_user(make_front):
    front = make_front(auth_required=False)
    nobody = front.client(user=None)
    job = accepted(nobody, SMALL)
    assert nobody.get(job["status_url"]).status_code == 200
    assert front.client("development").get(job["status_url"]).status_code == 200
    assert_refused(front.client("me").get(job["status_url"]), 404, "not_found")
    bad = front.client(user=None)
    bad.headers["Authorization"] = "Bearer nonsense"
    assert_refused(bad.get(job["status_url"]), 401, "not_authenticated")


def test_headers_are_read_in_any_case(front, client):
    job = accepted(client, SMALL)
    answer = front.client(user=None).get(job["status_url"], headers={"AUTHORIZATION": f"bEARER {token()}"})
    assert answer.status_code == 200


def test_a_walk_sees_every_operation_succeed_as_announced(make_front, tmp_path):
    secret = "whsec_" + base64.b64encode(bytes(32)).decode()
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    front = make_front(file_roots=(pictures,), webhook_secret=secret)
    client = front.client(scope="upload read delete admin")
    job = accepted(client)
    front.work()
    image = f"/api/v1/images/{job['image_id']}"
    for path in (
        job["status_url"],
        f"{job['status_url']}/result",
        f"{job['status_url']}/events",
        image,
        f"{image}/all",
        f"{image}/direct",
        "/api/v1/images",
        f"/api/v1/images/batch?image_ids={job['image_id']}",
        "/api/v1/health",
        "/api/v1/health/stats",
        "/api/v1/health/failed",
        client.get(image).json()["url"],
        *walk_the_jobs(front, client, pictures),
        walk_an_upload(front, client),
        walk_the_thumbnails(client),
    ):
        assert client.get(path).status_code == 200
    client.delete(image)
    assert {(method, path) for method, path, status in front.announced.seen if status < 300} == PATHS


def walk_an_upload(front, client):
    """Upload directly; gives where its state can be read then."""
    content = picture((80, 60))
    asked = {"content_type": "image/jpeg", "size_bytes": len(content), "bucket": "tests"}
    ticket = client.post("/api/v1/images/uploads", json=asked).json()
    front.client(None).put(ticket["url"], content=content, headers=ticket["headers"])
    client.post(ticket["complete_url"])
    return f"/api/v1/images/uploads/{ticket['upload_id']}"


def walk_the_thumbnails(client):
    """Upload for thumbnails, and several at once; gives where the first can be looked at."""
    several = [("files", picture((120, 100))), ("files", SMALL)]
    assert client.post("/api/v1/images/batch", files=several, data={"bucket": "tests"}).status_code == 202
    return client.post("/images/upload", files={"image": picture((120, 100))}).json()["statusUrl"]


def walk_the_jobs(front, client, folder):
    """Submit, fail, retry and cancel; gives what can be read of it then."""
    asked = {"input": f"file://{folder}/none.png", "callback_url": "https://example.com/hook"}
    job = f"/jobs/{client.post('/jobs', json=asked).json()['job_id']}"
    front.work()
    delivery = client.get(f"{job}/deliveries").json()["deliveries"][0]["delivery_id"]
    assert client.post(f"{job}/deliveries/{delivery}/replay").status_code == 202
    assert client.post(f"{job}/retry").status_code == 202
    assert client.post(f"{job}/cancel").status_code == 200
    return "/jobs", "/jobs/failed", job, f"{job}/events", f"{job}/deliveries"
