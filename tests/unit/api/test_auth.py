"""Tokens: who is let in as whom, and everybody else out with a sentence."""

import asyncio
import base64
import hmac
import json
import time

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from image_processor.api.auth import DEVELOPMENT_USER, Authenticator
from image_processor.errors import AuthenticationError, ConfigurationError, ForbiddenError, TokenError
from image_processor.tokens import MAX_TOKEN_LENGTH, MAX_USER_LENGTH, Rules, Scope, SecretKeys, TokenVerifier

SECRET = "a secret of the tests, as long as it has to be for any of the algorithms that there are"


class Door:
    """An authenticator, asked as a request asks it."""

    def __init__(self, *secrets, required=True, **rules):
        rules = Rules(**rules)
        verifier = TokenVerifier(SecretKeys(secrets or (SECRET,), rules.algorithm), rules)
        self._authenticator = Authenticator(verifier, required=required)

    def bearer(self, authorization):
        return asyncio.run(self._authenticator.bearer(authorization))

    def user(self, authorization):
        return self.bearer(authorization).user


@pytest.fixture(scope="module")
def authenticator():
    return Door()


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
    authenticator = Door(algorithm=algorithm)
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
    "a number as key id": unsigned('{"alg":"HS256","kid":7}'),
    "an endless token": bearer({"sub": "me", "x": "y" * MAX_TOKEN_LENGTH}),
    "scopes that are none": bearer({"sub": "me", "scope": {"read": True}}),
    "numbers as scopes": bearer({"sub": "me", "scopes": [1]}),
    "nothing as scope": bearer({"sub": "me", "scope": None}),
    "infinity as expiry": signed('{"sub": "me", "exp": 1e400}'),
    "words as expiry": signed('{"sub": "me", "exp": "tomorrow"}'),
}


@pytest.mark.parametrize("authorization", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("required", [True, False])
def test_a_bad_token_is_refused_even_where_none_is_needed(authorization, required):
    with pytest.raises(AuthenticationError) as refused:
        Door(required=required).user(authorization)
    assert str(refused.value).endswith(".")
    assert (refused.value.status, refused.value.details) == (401, {})


def test_no_token_is_refused_where_one_is_needed(authenticator):
    with pytest.raises(AuthenticationError, match="Authorization: Bearer"):
        authenticator.user(None)


def test_no_token_is_the_development_user_where_none_is_needed():
    bearer = Door(required=False).bearer(None)
    assert (bearer.user, bearer.scopes) == (DEVELOPMENT_USER, set(Scope))


def test_nobody_can_sign_with_no_secret():
    forged = "Bearer " + base64.urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=").decode() + ".e30.AAAA"
    with pytest.raises(AuthenticationError):
        Door("").user(forged)


@given(st.text() | st.text().map("Bearer {}".format))
@example("Bearer \x00.\x00.\x00")
def test_no_header_raises_anything_else(authorization):
    with pytest.raises(AuthenticationError):
        Door().user(authorization)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "jti", "scope", "scp"]), json_values
    )
)
def test_whatever_claims_are_signed_the_user_is_storable_text_or_refused(claims):
    try:
        user = Door().user(signed(json.dumps(claims)))
    except AuthenticationError:
        return
    assert user == claims["sub"]
    assert 0 < len(user.encode()) <= 4 * MAX_USER_LENGTH


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({}, {Scope.UPLOAD, Scope.READ, Scope.DELETE}),
        ({"scope": "read"}, {Scope.READ}),
        ({"scope": "openid upload  email admin"}, {Scope.UPLOAD, Scope.ADMIN}),
        ({"scope": ["read", "delete"]}, {Scope.READ, Scope.DELETE}),
        ({"scopes": ["upload"]}, {Scope.UPLOAD}),
        ({"scp": ["upload", "read"]}, {Scope.UPLOAD, Scope.READ}),
        ({"scp": "read delete"}, {Scope.READ, Scope.DELETE}),
        ({"scope": "read", "scp": ["admin"]}, {Scope.READ}),
        ({"scope": ""}, set()),
        ({"scopes": []}, set()),
        ({"scope": "READ image:read read,upload"}, set()),
    ],
)
def test_a_token_allows_what_it_names_and_without_names_all_but_admin(authenticator, claims, scopes):
    bearer = authenticator.bearer(bearer_of(claims))
    assert bearer.scopes == scopes
    for scope in Scope:
        if scope in scopes:
            bearer.require(scope)
        else:
            with pytest.raises(ForbiddenError, match=f"`{scope}`") as refused:
                bearer.require(scope)
            assert refused.value.details == {"scope": scope}


def bearer_of(claims):
    return bearer({"sub": "me"} | claims)


def test_a_secret_that_was_replaced_is_accepted_while_it_is_named(authenticator):
    old = SECRET[::-1]
    assert Door(SECRET, old).user(bearer({"sub": "me"}, old)) == "me"
    assert Door(SECRET, old).user(bearer({"sub": "me"}, SECRET)) == "me"
    with pytest.raises(TokenError, match="expired"):
        Door(SECRET, old).user(bearer({"sub": "me", "exp": 1}, old))
    with pytest.raises(TokenError):
        authenticator.user(bearer({"sub": "me"}, old))


@pytest.mark.parametrize(
    ("audience", "claims", "says"),
    [
        ("images", {"aud": "images"}, None),
        ("images", {"aud": ["others", "images"]}, None),
        ("images", {"aud": "image"}, "another service"),
        ("images", {"aud": "images and more"}, "another service"),
        ("images", {"aud": {"images": 1}}, "another service"),
        ("images", {"aud": [["images"]]}, "another service"),
        ("images", {"aud": []}, "no `aud`"),
        ("images", {}, "no `aud`"),
    ],
)
def test_a_token_for_others_is_refused_where_an_audience_is_set(audience, claims, says):
    door = Door(audience=audience)
    if says is None:
        assert door.user(bearer_of(claims)) == "me"
        return
    with pytest.raises(TokenError, match=says):
        door.user(bearer_of(claims))


@pytest.mark.parametrize(
    "issuer", ["https://id.example", "https://id.example/x/", ["https://id.example/"], 7]
)
def test_a_token_of_another_issuer_is_refused_where_one_is_set(issuer):
    door = Door(issuer="https://id.example/")
    assert door.user(bearer_of({"iss": "https://id.example/"})) == "me"
    for claims in ({"iss": issuer}, {}):
        with pytest.raises(TokenError):
            door.user(signed(json.dumps({"sub": "me"} | claims)))


def test_clocks_may_differ_by_so_much_and_no_more():
    now = int(time.time())
    door = Door(leeway_seconds=60)
    assert door.user(bearer_of({"exp": now - 30, "nbf": now + 30, "iat": now + 30})) == "me"
    for claims in ({"exp": now - 90}, {"nbf": now + 90}, {"iat": now + 90}):
        with pytest.raises(TokenError):
            door.user(bearer_of(claims))


def test_no_key_is_taken_from_a_token():
    mine = base64.urlsafe_b64encode(b"my own secret, and long enough for it").rstrip(b"=").decode()
    headers = {
        "jwk": {"kty": "oct", "k": mine},
        "jku": "https://evil.example/keys",
        "x5u": "https://evil.example",
    }
    with pytest.raises(TokenError):
        Door().user(bearer({"sub": "me"}, "my own secret, and long enough for it", **headers))
    assert Door().user(bearer({"sub": "me"}, **headers)) == "me"


def test_an_extension_that_libraries_know_is_refused_though_all_is_rightly_signed(authenticator):
    parts = (b'{"alg":"HS256","b64":true,"crit":["b64"]}', b'{"sub":"me"}')
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(SECRET.encode(), text, "sha256")).rstrip(b"=")
    token = (text + b"." + signature).decode()
    assert jwt.decode(token, SECRET, algorithms=["HS256"]) == {"sub": "me"}
    with pytest.raises(TokenError):
        authenticator.user(f"Bearer {token}")


def test_a_key_of_another_kind_is_no_secret():
    pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    with pytest.raises(ConfigurationError, match="another kind"):
        Door(pem)
