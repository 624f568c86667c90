"""The API with tokens of an issuer that publishes its keys: nobody waits for the issuer who need not."""

import asyncio
import json
import threading

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from integration.api.front import Front, accepted, assert_refused, picture
from web_server import answer, serving

PATIENCE_SECONDS = 20
KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
SMALL = picture((20, 20), "PNG")


def key_set(**keys):
    described = {
        kid: jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True) for kid, key in keys.items()
    }
    return answer(json.dumps({"keys": [jwk | {"kid": kid} for kid, jwk in described.items()]}).encode())


def bearer(key=KEY, kid="a", **claims):
    token = jwt.encode({"sub": "me", "aud": "images"} | claims, key, "ES256", headers={"kid": kid})
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def issuer():
    with serving({"/keys": key_set(a=KEY)}) as site:
        yield site


@pytest.fixture
def settings(issuer):
    return {
        "jwt_secret_key": "",
        "jwt_algorithm": "ES256",
        "jwt_jwks_url": f"http://127.0.0.1:{issuer.port}/keys",
        "jwt_audience": "images",
    }


def client(front, **options):
    found = front.client(user=None)
    found.headers.update(bearer(**options))
    return found


def test_its_users_are_let_in_and_nobody_else(make_front, settings, issuer):
    front = make_front(**settings)
    job = accepted(client(front), SMALL)
    assert client(front).get(job["status_url"]).status_code == 200
    assert_refused(client(front, sub="you").get(job["status_url"]), 404, "not_found")
    assert_refused(client(front, scope="read").delete("/api/v1/images/x"), 403, "forbidden")
    for options in ({"key": OTHER}, {"kid": "b"}, {"aud": "others"}, {"exp": 1}):
        assert_refused(client(front, **options).get(job["status_url"]), 401, "not_authenticated")
    assert issuer.connections == 1


def test_while_it_has_never_answered_no_token_is_blamed(make_front, settings, issuer):
    issuer.answers["/keys"] = answer(b"", status="500 Oh")
    refused = client(make_front(**settings)).get("/jobs")
    assert_refused(refused, 503, "unavailable")
    assert refused.headers["retry-after"]
    assert str(issuer.port) not in refused.text


def test_while_it_is_slow_only_those_wait_whose_key_is_not_known(make_front, settings, issuer):
    asked, go = threading.Event(), threading.Event()
    sound = issuer.answers["/keys"]

    def slow(connection, _site):
        asked.set()
        assert go.wait(PATIENCE_SECONDS)
        connection.sendall(sound)

    issuer.answers["/keys"] = slow
    front = make_front(**settings)

    async def meet():
        transport = httpx.ASGITransport(front.api)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            strangers = [
                asyncio.create_task(client.get("/jobs", headers=bearer(OTHER, kid=f"made up {number}")))
                for number in range(100)
            ]
            mine = asyncio.create_task(client.get("/jobs", headers=bearer()))
            assert await asyncio.to_thread(asked.wait, PATIENCE_SECONDS)
            assert (await client.get("/api/v1/health")).status_code == 200
            assert (await client.get("/jobs")).status_code == 401
            assert not any(task.done() for task in (*strangers, mine))
            go.set()
            return [found.status_code for found in await asyncio.gather(*strangers)], (await mine).status_code

    assert asyncio.run(asyncio.wait_for(meet(), 3 * PATIENCE_SECONDS)) == ([401] * 100, 200)
    assert issuer.connections == 1


def test_addresses_of_uploads_hold_in_every_process_that_shares_the_data(make_front, settings, tmp_path):
    asked = {"content_type": "image/png", "size_bytes": len(SMALL), "bucket": "tests"}
    ticket = client(make_front(**settings)).post("/api/v1/images/uploads", json=asked).json()
    beside = Front(tmp_path, settings)
    try:
        sent = beside.client(user=None).put(ticket["url"], content=SMALL, headers=ticket["headers"])
        assert sent.status_code == 204
        assert client(beside).post(ticket["complete_url"]).status_code == 202
    finally:
        beside.close()
