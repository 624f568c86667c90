"""Tokens: who is let in as whom, and everybody else out with a sentence."""

import base64
import json
import time

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from image_processor.api.auth import DEVELOPMENT_USER, Authenticator
from image_processor.errors import AuthenticationError
from image_processor.tokens import MAX_USER_LENGTH

SECRET = "a secret of the tests, as long as it has to be for any of the algorithms that there are"


@pytest.fixture(scope="module")
def authenticator():
    return Authenticator(SECRET, "HS256")


def bearer(claims, secret=SECRET, algorithm="HS256", **headers):
    return f"Bearer {jwt.encode(claims, secret, algorithm, headers=headers or None)}"


def signed(payload):
    """A token that holds exactly this text, rightly signed."""
    return f"Bearer {jwt.api_jws.encode(payload.encode(), SECRET)}"


def unsigned(header, payload="{}", signature="AAAA"):
    parts = (base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in (header, payload))
    return f"Bearer {'.'.join(parts)}.{signature}"


@pytest.mark.parametrize(
    "user", ["me", "auth0|5f", "a@b.example", "ünï", "用户", "🦊", "a b", "x" * MAX_USER_LENGTH, "0"]
)
def test_the_subject_is_the_user(authenticator, user):
    assert authenticator.user(bearer({"sub": user})) == user


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer    "])
def test_the_scheme_is_read_as_http_has_it(authenticator, scheme):
    token = bearer({"sub": "me"}).removeprefix("Bearer ")
    assert authenticator.user(f"{scheme}{token}") == "me"
    assert authenticator.user(f"{scheme}{token}  ") == "me"


def test_other_claims_do_not_matter(authenticator):
    now = int(time.time())
    claims = {
        "sub": "me",
        "iat": now,
        "nbf": now,
        "exp": now + 60,
        "aud": ["others"],
        "iss": "somebody",
        "x": {},
    }
    assert authenticator.user(bearer(claims)) == "me"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_the_service_chooses_the_algorithm(algorithm):
    authenticator = Authenticator(SECRET, algorithm)
    assert authenticator.user(bearer({"sub": "me"}, algorithm=algorithm)) == "me"
    for other in {"HS256", "HS384", "HS512"} - {algorithm}:
        with pytest.raises(AuthenticationError):
            authenticator.user(bearer({"sub": "me"}, algorithm=other))


def test_an_expired_token_says_so(authenticator):
    with pytest.raises(AuthenticationError, match="expired"):
        authenticator.user(bearer({"sub": "me", "exp": int(time.time()) - 1}))


REFUSED = {
    "nothing": "",
    "the scheme alone": "Bearer",
    "the scheme and a space": "Bearer ",
    "another scheme": "Basic dXNlcjpwYXNz",
    "a token without a scheme": bearer({"sub": "me"}).removeprefix("Bearer "),
    "two tokens": bearer({"sub": "me"}) + " " + bearer({"sub": "me"}),
    "dots": "Bearer ..",
    "letters of other alphabets": "Bearer é.é.é",
    "half a surrogate": "Bearer \udcff",
    "another secret": bearer({"sub": "me"}, SECRET[::-1]),
    "no algorithm": "Bearer " + jwt.encode({"sub": "me"}, None, algorithm="none"),
    "no algorithm, spelt otherwise": unsigned('{"alg":"NoNe"}', '{"sub":"me"}', ""),
    "no signature": bearer({"sub": "me"}).rpartition(".")[0] + ".",
    "a changed signature": bearer({"sub": "me"})[:-4] + "AAAA",
    "a list as algorithm": unsigned('{"alg":["HS256"]}'),
    "a critical extension": unsigned('{"alg":"HS256","crit":["x"],"x":1}'),
    "a detached payload": unsigned('{"alg":"HS256","b64":false,"crit":["b64"]}'),
    "a list as header": unsigned("[]"),
    "endless nesting in the header": unsigned('{"alg":"HS256","a":' + "[" * 9000 + "]" * 9000 + "}"),
    "an endless number in the header": unsigned('{"alg":"HS256","a":' + "9" * 9000 + "}"),
    "a list as payload": signed("[]"),
    "no JSON as payload": signed("{"),
    "endless nesting in the payload": signed('{"sub":' + "[" * 9000 + "]" * 9000 + "}"),
    "no subject": bearer({"name": "me"}),
    "nothing as subject": signed('{"sub": null}'),
    "a number as subject": signed('{"sub": 7}'),
    "an object as subject": signed('{"sub": {"a": 1}}'),
    "an empty subject": bearer({"sub": ""}),
    "an endless subject": bearer({"sub": "x" * (MAX_USER_LENGTH + 1)}),
    "half a surrogate as subject": signed(r'{"sub": "\ud800"}'),
    "not valid yet": bearer({"sub": "me", "nbf": int(time.time()) + 3600}),
    "infinity as expiry": signed('{"sub": "me", "exp": 1e400}'),
    "words as expiry": signed('{"sub": "me", "exp": "tomorrow"}'),
}


@pytest.mark.parametrize("authorization", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("required", [True, False])
def test_a_bad_token_is_refused_even_where_none_is_needed(authorization, required):
    with pytest.raises(AuthenticationError) as refused:
        Authenticator(SECRET, "HS256", required=required).user(authorization)
    assert str(refused.value).endswith(".")
    assert (refused.value.status, refused.value.details) == (401, {})


def test_no_token_is_refused_where_one_is_needed(authenticator):
    with pytest.raises(AuthenticationError, match="Authorization: Bearer"):
        authenticator.user(None)


def test_no_token_is_the_development_user_where_none_is_needed():
    assert Authenticator(SECRET, "HS256", required=False).user(None) == DEVELOPMENT_USER


def test_nobody_can_sign_with_no_secret():
    forged = "Bearer " + base64.urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=").decode() + ".e30.AAAA"
    with pytest.raises(AuthenticationError):
        Authenticator("", "HS256").user(forged)


@given(st.text() | st.text().map("Bearer {}".format))
@example("Bearer \x00.\x00.\x00")
def test_no_header_raises_anything_else(authorization):
    with pytest.raises(AuthenticationError):
        Authenticator(SECRET, "HS256").user(authorization)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "jti"]), json_values))
def test_whatever_claims_are_signed_the_user_is_storable_text_or_refused(claims):
    try:
        user = Authenticator(SECRET, "HS256").user(signed(json.dumps(claims)))
    except AuthenticationError:
        return
    assert user == claims["sub"]
    assert 0 < len(user.encode()) <= 4 * MAX_USER_LENGTH
