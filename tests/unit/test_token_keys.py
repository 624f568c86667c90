"""Public keys: which count, how those of an issuer are kept, and how seldom they are asked for."""

import base64
import hashlib
import hmac
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from image_processor.bootstrap import authentication, open_verifier
from image_processor.cli.serve import check_safe_to_start
from image_processor.errors import ConfigurationError, MissingExtraError, TokenError, UnavailableError
from image_processor.settings import load_settings
from image_processor.telemetry import subscribe
from image_processor.tokens import Rules, TokenVerifier, public_keys
from image_processor.tokens.public_keys import PemKeys, read_key_set
from image_processor.tokens.published_keys import PAUSE_SECONDS, PublishedKeys
from web_server import answer, redirect, serving

PATIENCE_SECONDS = 20
RSA, OTHER_RSA = (rsa.generate_private_key(65_537, 2048) for _ in range(2))
SHORT_RSA = rsa.generate_private_key(65_537, 1024)
EC, OTHER_EC = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
LONG_EC = ec.generate_private_key(ec.SECP384R1())
PAIRS = [("RS256", RSA), ("RS384", RSA), ("RS512", RSA), ("ES256", EC)]


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def jwk(key, kid=None, **members):
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    named = {} if kid is None else {"kid": kid}
    return kind.to_jwk(key.public_key(), as_dict=True) | named | members


def key_set(*keys):
    return json.dumps({"keys": keys}).encode()


def token(key, algorithm="RS256", kid=None, **claims):
    return jwt.encode({"sub": "me"} | claims, key, algorithm, headers={"kid": kid} if kid else None)


def verifier(keys, algorithm="RS256"):
    return TokenVerifier(keys, Rules(algorithm=algorithm))


class TestPem:
    @pytest.mark.parametrize(("algorithm", "key"), PAIRS)
    def test_what_the_private_key_signs_the_public_one_lets_in(self, algorithm, key):
        checking = verifier(PemKeys(pem(key), algorithm), algorithm)
        assert checking.bearer(token(key, algorithm, kid="anything")).user == "me"
        other = OTHER_EC if key is EC else OTHER_RSA
        with pytest.raises(TokenError):
            checking.bearer(token(other, algorithm))

    def test_two_keys_let_in_what_either_signs(self):
        checking = verifier(PemKeys(pem(RSA) + "and\n" + pem(OTHER_RSA), "RS256"))
        for key in (RSA, OTHER_RSA):
            assert checking.bearer(token(key)).user == "me"

    @pytest.mark.parametrize(
        "text",
        [pem(RSA), pem(RSA).strip(), pem(RSA).replace("\n", "")],
        ids=["as it is", "stripped", "in one line"],
    )
    def test_the_public_key_is_no_secret(self, text):
        head, body = (
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
            for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": "me"})
        )
        signature = hmac.digest(text.encode(), head + b"." + body, hashlib.sha256)
        forged = b".".join((head, body, base64.urlsafe_b64encode(signature).rstrip(b"="))).decode()
        with pytest.raises(TokenError):
            verifier(PemKeys(pem(RSA), "RS256")).bearer(forged)

    @pytest.mark.parametrize("algorithm", ["RS384", "ES256", "PS256", "HS256", "none"])
    def test_another_algorithm_than_the_one_that_is_set_is_refused(self, algorithm):
        key = {"E": EC, "H": "a secret of the tests, as long as it has to be", "n": None}.get(
            algorithm[0], RSA
        )
        with pytest.raises(TokenError):
            verifier(PemKeys(pem(RSA), "RS256")).bearer(token(key, algorithm))

    @pytest.mark.parametrize(
        ("text", "algorithm", "says"),
        [
            ("", "RS256", "no key"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "RS256", "cannot be read"),
            (pem(EC), "RS256", "not fit for RS256"),
            (pem(RSA), "ES256", "not fit for ES256"),
            (pem(LONG_EC), "ES256", "not fit for ES256"),
            (pem(SHORT_RSA), "RS256", "not fit for RS256"),
            (pem(RSA) + pem(EC), "RS256", "not fit for RS256"),
            (
                EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
                "ES256",
                "a private key",
            ),
        ],
    )
    def test_what_is_no_public_key_of_the_algorithm_is_refused_and_not_shown(self, text, algorithm, says):
        with pytest.raises(ConfigurationError, match=says) as refused:
            PemKeys(text, algorithm)
        assert "AAAA" not in str(refused.value)
        assert "BEGIN PRIVATE" not in str(refused.value)


class TestKeySet:
    @pytest.mark.parametrize(
        "unfit",
        [
            jwk(EC, "b"),
            jwk(SHORT_RSA, "b"),
            jwk(OTHER_RSA, "b", use="enc"),
            jwk(OTHER_RSA, "b", alg="RS512"),
            jwk(OTHER_RSA, "b", key_ops=["encrypt"]),
            jwk(OTHER_RSA, "b", key_ops="verify"),
            jwk(OTHER_RSA, 7),
            jwk(OTHER_RSA, "b", e="AA"),
            jwk(OTHER_RSA, "b", n="!!!"),
            jwk(OTHER_RSA, "b", n=None),
            {"kty": "oct", "k": "c2VjcmV0", "kid": "b", "alg": "RS256"},
            {"kty": ["RSA"]},
            {},
            "key",
            None,
        ],
        ids=range(15),
    )
    def test_keys_that_do_not_fit_are_passed_over(self, unfit):
        assert [kid for kid, _ in read_key_set(key_set(unfit, jwk(RSA, "a")), "RS256")] == ["a"]
        with pytest.raises(UnavailableError, match="no key for RS256"):
            read_key_set(key_set(unfit), "RS256")

    @pytest.mark.parametrize(
        "document",
        [b"", b"<html>", b"[]", b"{}", b'{"keys": {}}', b"\xff", b"[" * 100_000, b"null", b'"keys"'],
    )
    def test_what_is_no_key_set_is_refused(self, document):
        with pytest.raises(UnavailableError):
            read_key_set(document, "RS256")

    def test_a_private_key_that_slipped_in_is_used_for_its_public_half(self):
        private = jwt.algorithms.RSAAlgorithm.to_jwk(RSA, as_dict=True)
        ((_, key),) = read_key_set(key_set(private | {"key_ops": ["sign", "verify"]}), "RS256")
        assert isinstance(key, rsa.RSAPublicKey)


class Issuer:
    """Publishes what a test says, and counts how often it is asked."""

    def __init__(self, *keys):
        self.document = key_set(*keys)
        self.fetches = 0
        self.open = threading.Event()
        self.open.set()
        self.clock = 0.0
        self.keys = PublishedKeys(self._fetch, "RS256", refresh_seconds=300, now=lambda: self.clock)
        self.verifier = verifier(self.keys)

    def _fetch(self):
        self.fetches += 1
        assert self.open.wait(PATIENCE_SECONDS)
        if self.document is None:
            raise UnavailableError("It is down.")
        return self.document

    def user(self, given):
        """As a request has it."""
        if news := self.verifier.refresh(given):
            news.result(PATIENCE_SECONDS)
        return self.verifier.bearer(given).user

    def settle(self):
        """Wait for a fetch behind the back of a request."""
        if running := self.keys._running:
            running.result(PATIENCE_SECONDS)


class TestPublishedKeys:
    def test_are_fetched_once_for_as_many_tokens_as_come(self):
        issuer = Issuer(jwk(RSA, "a"))
        assert {issuer.user(token(RSA, kid="a")) for _ in range(20)} == {"me"}
        assert issuer.fetches == 1

    def test_a_token_that_names_no_key_has_the_only_one(self):
        issuer = Issuer(jwk(RSA, "a"))
        assert issuer.user(token(RSA)) == "me"
        both = Issuer(jwk(RSA, "a"), jwk(OTHER_RSA, "b"))
        with pytest.raises(TokenError):
            both.user(token(RSA))

    def test_a_key_is_good_for_its_own_name_alone(self):
        issuer = Issuer(jwk(RSA, "a"), jwk(OTHER_RSA, "b"))
        with pytest.raises(TokenError):
            issuer.user(token(OTHER_RSA, kid="a"))

    def test_a_new_key_is_fetched_with_the_first_token_that_names_it(self):
        issuer = Issuer(jwk(RSA, "a"))
        issuer.user(token(RSA, kid="a"))
        issuer.document = key_set(jwk(RSA, "a"), jwk(OTHER_RSA, "b"))
        issuer.clock += PAUSE_SECONDS
        assert issuer.user(token(OTHER_RSA, kid="b")) == "me"
        assert issuer.fetches == 2

    def test_made_up_keys_cost_no_fetch_within_the_pause(self):
        issuer = Issuer(jwk(RSA, "a"))
        issuer.user(token(RSA, kid="a"))
        for pauses in (1, 2):
            for number in range(200):
                with pytest.raises(TokenError, match="does not publish"):
                    issuer.user(token(OTHER_RSA, kid=f"made up {number}"))
            issuer.clock += PAUSE_SECONDS
            assert issuer.fetches == pauses

    def test_however_many_ask_only_one_fetch_runs_and_all_have_its_keys(self):
        issuer = Issuer(jwk(RSA, "a"))
        issuer.open.clear()
        with ThreadPoolExecutor(16) as pool:
            users = [pool.submit(issuer.user, token(RSA, kid="a")) for _ in range(16)]
            waits = [issuer.keys.refresh("a")]
            issuer.clock += 2 * PAUSE_SECONDS
            waits += [issuer.keys.refresh("a") for _ in range(16)]
            issuer.open.set()
            assert {user.result(PATIENCE_SECONDS) for user in users} == {"me"}
        assert len(set(map(id, waits))) == 1
        assert issuer.fetches == 1

    def test_old_keys_are_renewed_behind_the_request_that_finds_them_old(self):
        issuer = Issuer(jwk(RSA, "a"))
        issuer.user(token(RSA, kid="a"))
        issuer.document = key_set(jwk(OTHER_RSA, "b"))
        issuer.clock += 300
        issuer.open.clear()
        assert issuer.user(token(RSA, kid="a")) == "me"
        issuer.open.set()
        issuer.settle()
        assert issuer.fetches == 2
        with pytest.raises(TokenError, match="does not publish"):
            issuer.user(token(RSA, kid="a"))

    @pytest.mark.parametrize(
        "document",
        [None, b"<html>", key_set(), key_set(jwk(EC, "a"))],
        ids=["nothing", "a page", "no keys", "another kind"],
    )
    def test_keys_stay_while_no_others_are_to_be_had(self, document):
        events = []
        unsubscribe = subscribe(lambda event, fields: events.append((event, fields.get("kept"))))
        issuer = Issuer(jwk(RSA, "a"))
        issuer.user(token(RSA, kid="a"))
        sound, issuer.document = issuer.document, document
        issuer.clock += 300
        assert issuer.user(token(RSA, kid="a")) == "me"
        issuer.settle()
        assert issuer.user(token(RSA, kid="a")) == "me"
        with pytest.raises(UnavailableError, match="at the moment"):
            issuer.user(token(OTHER_RSA, kid="b"))
        unsubscribe()
        assert (events, issuer.fetches) == ([("token_keys.failed", 1)], 2)
        issuer.document = sound
        issuer.clock += PAUSE_SECONDS
        with pytest.raises(TokenError):
            issuer.user(token(OTHER_RSA, kid="b"))

    def test_before_the_first_keys_nothing_can_be_told(self):
        issuer = Issuer()
        issuer.document = None
        with pytest.raises(UnavailableError):
            issuer.user(token(RSA, kid="a"))
        issuer.document = key_set(jwk(RSA, "a"))
        issuer.clock += PAUSE_SECONDS
        assert issuer.user(token(RSA, kid="a")) == "me"

    def test_a_request_that_is_given_up_takes_no_keys_from_the_others(self):
        issuer = Issuer(jwk(RSA, "a"))
        issuer.open.clear()
        assert not issuer.verifier.refresh(token(RSA, kid="a")).cancel()
        issuer.open.set()
        assert issuer.user(token(RSA, kid="a")) == "me"

    def test_rubbish_is_refused_before_anybody_is_asked(self):
        issuer = Issuer(jwk(RSA, "a"))
        for given in ("rubbish", "a.b.c", token(EC, "ES256", kid="a"), token(RSA, kid="a" * 9000)):
            with pytest.raises(TokenError):
                issuer.user(given)
        assert issuer.fetches == 0


RS = {"jwt_algorithm": "RS256"}
JWKS = {"jwt_jwks_url": "https://id.example/keys", "jwt_audience": "images"}


class TestSettings:
    @pytest.mark.parametrize(
        ("given", "says"),
        [
            (RS, "either JWT_PUBLIC_KEY or JWT_JWKS_URL"),
            (RS | JWKS | {"jwt_public_key": pem(RSA)}, "either JWT_PUBLIC_KEY or JWT_JWKS_URL"),
            ({"jwt_public_key": pem(RSA)}, "need JWT_ALGORITHM"),
            (JWKS, "need JWT_ALGORITHM"),
            (RS | {"jwt_public_key": "no/such.pem"}, "neither PEM nor a file"),
            (RS | {"jwt_jwks_url": "https://id.example/keys"}, "JWT_AUDIENCE or JWT_ISSUER"),
            (RS | JWKS | {"jwt_jwks_url": "file:///etc/passwd"}, "JWT_JWKS_URL"),
            (RS | JWKS | {"jwt_jwks_url": "http://169.254.169.254/keys"}, "JWT_JWKS_URL"),
            (RS | JWKS | {"jwt_jwks_url": "http://192.0.2.1/keys"}, "JWT_JWKS_URL"),
            ({"jwt_secret_key": pem(RSA)}, "another kind"),
        ],
    )
    def test_what_could_check_no_token_stops_the_start(self, given, says):
        with pytest.raises(ConfigurationError, match=says):
            open_verifier(load_settings(**given))

    @pytest.mark.parametrize("spell", [str, lambda text: text.replace("\n", "\\n")])
    def test_a_public_key_is_taken_from_the_variable_itself(self, spell):
        settings = load_settings(**RS, jwt_public_key=spell(pem(RSA)))
        assert open_verifier(settings).bearer(token(RSA)).user == "me"

    def test_or_from_a_file(self, tmp_path):
        (tmp_path / "key.pem").write_text(pem(RSA))
        settings = load_settings(**RS, jwt_public_key=str(tmp_path / "key.pem"))
        assert open_verifier(settings).bearer(token(RSA)).user == "me"

    def test_without_the_extra_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setattr(public_keys, "_absence", ModuleNotFoundError("cryptography"))
        for given in ({"jwt_public_key": pem(RSA)}, JWKS):
            with pytest.raises(MissingExtraError, match=r"image-processor\[jwks\]"):
                open_verifier(load_settings(**RS, **given))
        open_verifier(load_settings(jwt_secret_key="a secret of the tests, as long as it has to be"))

    def test_the_start_needs_no_secret_where_others_sign_but_never_an_example(self):
        check_safe_to_start(load_settings(**RS, **JWKS), dev=False)
        for given in (
            RS | {"jwt_secret_key": "changeme"},
            {"jwt_secret_key": "x" * 32, "jwt_previous_secrets": ("changeme",)},
            {},
        ):
            with pytest.raises(ConfigurationError, match="example"):
                check_safe_to_start(load_settings(**given), dev=False)
        with pytest.raises(ConfigurationError, match="Development mode"):
            check_safe_to_start(load_settings(**RS, **JWKS), dev=True)


class TestOverHttp:
    """The issuer is a server here; its address comes from the settings."""

    @staticmethod
    def user(site, path="/keys"):
        settings = load_settings(**RS, jwt_jwks_url=f"http://127.0.0.1:{site.port}{path}", jwt_issuer="me")
        checking = open_verifier(settings)
        given = token(RSA, kid="a", iss="me")
        checking.refresh(given).result(PATIENCE_SECONDS)
        return checking.bearer(given).user

    @pytest.mark.parametrize("path", ["/keys", "/moved"])
    def test_its_keys_are_fetched(self, path):
        with serving({"/keys": answer(key_set(jwk(RSA, "a"))), "/moved": redirect("/keys")}) as site:
            assert self.user(site, path) == "me"

    @pytest.mark.parametrize(
        "said",
        [
            answer(b"no", status="500 Oh"),
            answer(b"no", status="404 Not Found"),
            answer(key_set(jwk(RSA, "a")), length=9_000_000),
            answer(b" " * (authentication.MAX_KEY_SET_BYTES + 1)),
            b"rubbish",
            redirect("file:///etc/passwd"),
            redirect("http://169.254.169.254/keys"),
        ],
    )
    def test_what_is_no_sound_answer_lets_nobody_in_and_blames_no_token(self, said):
        with serving({"/keys": said}) as site, pytest.raises(UnavailableError):
            self.user(site)

    def test_one_that_is_slow_is_given_up(self, monkeypatch):
        monkeypatch.setattr(authentication, "FETCH_SECONDS", 0.2)

        def silence(_connection, site):
            site.stopping.wait(PATIENCE_SECONDS)

        with serving({"/keys": silence}) as site:
            with pytest.raises(UnavailableError):
                self.user(site)
            site.stopping.set()
