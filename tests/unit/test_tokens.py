"""Tokens are good for their user and their time; the secret of development mode is made once and kept."""

import stat
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from image_processor.bootstrap import open_verifier
from image_processor.errors import ConfigurationError, InvalidRequestError
from image_processor.settings import Settings
from image_processor.tokens import (
    MAX_USER_LENGTH,
    SECRET_FILE,
    UPLOAD_SECRET_FILE,
    Scope,
    development_secret_exists,
    make_token,
    upload_secret,
    with_development_secret,
)

SECRET = "a secret of the tests, as long as it has to be for any of the algorithms that there are"


@pytest.fixture
def settings(tmp_path):
    return Settings(jwt_secret_key=SECRET, data_path=tmp_path / "data")


@pytest.fixture
def without(settings):
    """The same, with no secret set."""
    return settings.model_copy(update={"jwt_secret_key": ""})


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("user", ["me", "用户 🦊", "x" * MAX_USER_LENGTH])
def test_a_token_lets_its_user_in(settings, algorithm, user):
    settings = settings.model_copy(update={"jwt_algorithm": algorithm})
    bearer = open_verifier(settings).bearer(make_token(settings, user))
    assert (bearer.user, bearer.scopes) == (user, set(Scope) - {Scope.ADMIN})


def test_a_token_has_the_scopes_audience_and_issuer_that_are_asked_for(settings):
    settings = settings.model_copy(update={"jwt_audience": "images", "jwt_issuer": "me"})
    token = make_token(settings, "me", scopes=[Scope.READ, Scope.ADMIN, Scope.READ])
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="images")
    assert (claims["scope"], claims["iss"]) == ("admin read", "me")
    assert open_verifier(settings).bearer(token).scopes == {Scope.READ, Scope.ADMIN}


def test_where_others_sign_no_token_is_made(settings):
    with pytest.raises(ConfigurationError, match="signed elsewhere"):
        make_token(settings.model_copy(update={"jwt_algorithm": "RS256"}), "me")


def test_addresses_of_uploads_are_signed_with_the_secret_or_with_one_that_is_kept(
    settings, without, tmp_path
):
    assert upload_secret(settings) == SECRET.encode()
    assert not (tmp_path / "data").exists()
    with ThreadPoolExecutor(8) as pool:
        kept = set(pool.map(lambda _: upload_secret(without), range(32)))
    assert len(kept) == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == [UPLOAD_SECRET_FILE]
    assert stat.S_IMODE((tmp_path / "data" / UPLOAD_SECRET_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize(("hours", "seconds"), [(24, 86_400), (0.01, 36), (87_600, 315_360_000)])
def test_a_token_ends_after_so_many_hours(settings, hours, seconds):
    before = int(time.time())
    claims = jwt.decode(make_token(settings, "me", valid_hours=hours), SECRET, algorithms=["HS256"])
    assert before <= claims["iat"] <= time.time()
    assert claims["exp"] - claims["iat"] == seconds


@pytest.mark.parametrize("user", ["", "x" * (MAX_USER_LENGTH + 1), "\ud800"])
def test_no_token_is_made_that_would_be_refused(settings, user):
    with pytest.raises(InvalidRequestError, match="1 to 200 characters"):
        make_token(settings, user)


@pytest.mark.parametrize("hours", [0, -1, 87_601, float("inf"), float("nan")])
def test_hours_out_of_their_range_are_refused(settings, hours):
    with pytest.raises(InvalidRequestError, match="87600 hours"):
        make_token(settings, "me", valid_hours=hours)


def test_a_secret_that_is_set_stays(settings, tmp_path):
    assert with_development_secret(settings) is settings
    assert not development_secret_exists(settings)
    assert not (tmp_path / "data").exists()


def test_the_secret_of_development_mode_is_made_once_for_its_owner_alone(without, tmp_path):
    first, second = with_development_secret(without), with_development_secret(without)
    assert first.jwt_secret_key == second.jwt_secret_key
    assert len(first.jwt_secret_key) == 64
    assert first.has_own_secret()
    assert development_secret_exists(without)
    assert stat.S_IMODE((tmp_path / "data" / SECRET_FILE).stat().st_mode) == 0o600


def test_two_data_folders_have_two_secrets(without, tmp_path):
    other = without.model_copy(update={"data_path": tmp_path / "other"})
    assert with_development_secret(without).jwt_secret_key != with_development_secret(other).jwt_secret_key


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe", "cannot be read")]
)
def test_a_spoilt_secret_is_said_to_be_so(without, tmp_path, content, words):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / SECRET_FILE).write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"{SECRET_FILE} {words}"):
        with_development_secret(without)


def test_a_data_folder_that_cannot_be_made_is_said_to_be_so(without, tmp_path):
    (tmp_path / "data").write_bytes(b"a file")
    with pytest.raises(ConfigurationError, match="data"):
        with_development_secret(without)
