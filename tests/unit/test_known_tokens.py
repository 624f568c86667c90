"""A token that held is not taken apart again, and holds no longer than if it were."""

import pytest

from image_processor.errors import TokenError
from image_processor.settings import Settings
from image_processor.tokens import Bearer, Rules, SecretKeys, TokenVerifier, make_token
from image_processor.tokens.known_tokens import MAX_KNOWN, Known, KnownTokens

SECRET, OTHER = "a" * 64, "b" * 64
BEARER = Bearer("ann")


class Rotating:
    """Keys of which some go and others come, and how often they were asked for."""

    def __init__(self, *secrets: str) -> None:
        self.turn_to(*secrets)

    def turn_to(self, *secrets: str) -> None:
        self._keys = SecretKeys(secrets, "HS256")

    def candidates(self, kid: str | None):
        return self._keys.candidates(kid)

    def refresh(self, kid: str | None) -> None:
        return None


@pytest.fixture
def token() -> str:
    return make_token(Settings(jwt_secret_key=SECRET), "ann")


def known(**times: int) -> Known:
    return Known.of(BEARER, times, kid=None, key=b"")


def test_the_signature_is_checked_once(token, monkeypatch):
    verifier = TokenVerifier(SecretKeys([SECRET], "HS256"), Rules())
    first = verifier.bearer(token)
    monkeypatch.setattr(verifier, "_decode", None)
    assert verifier.bearer(token) == first


def test_it_is_refused_once_its_key_is_gone(token):
    keys = Rotating(SECRET)
    verifier = TokenVerifier(keys, Rules())
    verifier.bearer(token)
    keys.turn_to(OTHER)
    with pytest.raises(TokenError):
        verifier.bearer(token)


def test_it_holds_on_where_the_key_comes_again(token):
    keys = Rotating(SECRET)
    verifier = TokenVerifier(keys, Rules())
    verifier.bearer(token)
    keys.turn_to(OTHER, SECRET)
    assert verifier.bearer(token).user == "ann"


def test_what_was_refused_is_not_kept(token):
    keys = Rotating(OTHER)
    verifier = TokenVerifier(keys, Rules())
    for _ in range(2):
        with pytest.raises(TokenError):
            verifier.bearer(token)


def test_a_changed_signature_is_another_token(token):
    verifier = TokenVerifier(SecretKeys([SECRET], "HS256"), Rules())
    verifier.bearer(token)
    head, _, signature = token.rpartition(".")
    with pytest.raises(TokenError):
        verifier.bearer(f"{head}.{signature[::-1]}")


def test_one_that_has_ended_since_is_told_so(token, monkeypatch):
    verifier = TokenVerifier(SecretKeys([SECRET], "HS256"), Rules(leeway_seconds=2 * 86_400))
    verifier.bearer(make_token(Settings(jwt_secret_key=SECRET), "ann", valid_hours=1))
    ended = make_token(Settings(jwt_secret_key=SECRET), "ann", valid_hours=0.0001)  # its `exp` is now
    assert verifier.bearer(ended).user == "ann"
    verifier._rules = Rules()
    with pytest.raises(TokenError, match="expired"):
        verifier.bearer(ended)


@pytest.mark.parametrize(
    ("now", "leeway", "is_in_time"),
    [(99, 0, False), (100, 0, True), (199.9, 0, True), (200, 0, False), (95, 5, True), (205, 5, False)],
)
def test_its_times_are_those_of_the_first_check(now, leeway, is_in_time):
    assert known(iat=90, nbf=100, exp=200).is_in_time(now, leeway) is is_in_time


def test_times_beyond_any_float_are_times():
    assert known(exp=10**400).is_in_time(1.0, 0.0)


def test_no_more_are_kept_than_1024():
    tokens = KnownTokens()
    for number in range(MAX_KNOWN + 1):
        tokens.keep(str(number), known())
    assert tokens.find("0") is None
    assert tokens.find(str(MAX_KNOWN)) is not None
