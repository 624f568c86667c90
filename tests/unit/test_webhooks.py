import base64
import json
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_processor.errors import AuthenticationError, ConfigurationError
from image_processor.webhooks import public_url, read_secret, sign, verify
from webhook_receiver import KEY, SECRET, Request

BODY = b'{"type":"job.completed","data":{"job_id":"1"}}'


def headers(*, body=BODY, event_id="evt_1", timestamp=None, key=KEY):
    timestamp = int(time.time()) if timestamp is None else timestamp
    return {
        "Webhook-Id": event_id,
        "Webhook-Timestamp": str(timestamp),
        "Webhook-Signature": sign(key, event_id, timestamp, body),
    }


def test_the_signature_is_that_of_the_convention():
    lower = {name.lower(): value for name, value in headers().items()}
    assert Request("/", lower, BODY).is_genuine


def test_the_signature_is_that_of_the_conventions_published_example():
    key = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_genuine_request_gives_its_event():
    assert verify(SECRET, headers(), BODY) == json.loads(BODY)


def test_one_signature_of_several_is_enough():
    given = headers()
    others = [sign(bytes(24), "evt_1", 1, BODY), "v1a,abc", ""]
    given["Webhook-Signature"] = " ".join([*others, given["Webhook-Signature"]])
    assert verify(SECRET, given, BODY)


@pytest.mark.parametrize(
    "changed",
    [
        {"Webhook-Id": "evt_2"},
        {"Webhook-Timestamp": str(int(time.time()) - 1)},
        {"Webhook-Signature": "v1,"},
        {"Webhook-Signature": ""},
        {"Webhook-Signature": "v1,\udcff"},
        {"Webhook-Id": "\udcff"},
        {"Webhook-Timestamp": "now"},
        {"Webhook-Timestamp": "9" * 400},
        {"Webhook-Timestamp": "nan"},
    ],
)
def test_a_header_that_was_changed_is_refused(changed):
    with pytest.raises(AuthenticationError):
        verify(SECRET, headers() | changed, BODY)


@pytest.mark.parametrize("missing", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
def test_a_header_that_is_missing_is_refused(missing):
    given = headers()
    del given[missing]
    with pytest.raises(AuthenticationError, match="lacks a header"):
        verify(SECRET, given, BODY)


@pytest.mark.parametrize("position", range(0, len(BODY), 5))
def test_a_body_that_was_changed_is_refused(position):
    changed = bytearray(BODY)
    changed[position] ^= 1
    with pytest.raises(AuthenticationError, match="not signed"):
        verify(SECRET, headers(), bytes(changed))


def test_another_secret_is_refused():
    with pytest.raises(AuthenticationError, match="not signed"):
        verify(SECRET, headers(key=bytes(24)), BODY)


@pytest.mark.parametrize("seconds", [-3600, -310, 310, 3600])
def test_a_time_that_is_far_from_now_is_refused_though_signed(seconds):
    given = headers(timestamp=int(time.time()) + seconds)
    with pytest.raises(AuthenticationError, match="too old"):
        verify(SECRET, given, BODY)
    assert verify(SECRET, given, BODY, tolerance_seconds=4000)


@given(st.text(), st.integers() | st.text(), st.text(), st.binary())
def test_whatever_a_stranger_sends_is_refused_in_one_way(event_id, timestamp, signature, body):
    given_headers = {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature,
    }
    with pytest.raises(AuthenticationError):
        verify(SECRET, given_headers, body, tolerance_seconds=1e12)


def of_bytes(count):
    return "whsec_" + base64.b64encode(bytes(count)).decode()


def test_a_secret_is_base64_of_24_to_64_bytes_with_or_without_padding_and_prefix():
    for count in (24, 25, 26, 64):
        text = of_bytes(count)
        for spelling in (text, text.rstrip("="), text.removeprefix("whsec_"), f" {text}\n"):
            assert read_secret(spelling) == bytes(count)


@pytest.mark.parametrize("text", ["", "whsec_", of_bytes(23), of_bytes(65), "whsec_" + "ä" * 40, "whsec_#"])
def test_what_is_no_secret_is_refused_with_a_sentence_that_does_not_tell_it(text):
    with pytest.raises(ConfigurationError, match=r"whsec_.*24 to 64.*\.$") as caught:
        read_secret(text)
    assert len(text) < 8 or text not in str(caught.value)


def test_an_address_is_shown_without_what_may_be_secret():
    assert public_url("https://me:word@example.com:8443/a/b?token=x#y") == "https://example.com:8443/a/b"


def test_a_receiver_that_verifies_loads_no_database():
    script = "import sys; from image_processor.webhooks import verify; print('sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
