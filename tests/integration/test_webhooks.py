import re
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pysqlite3 import dbapi2 as sqlite3

from image_processor.errors import UnavailableError
from image_processor.jobs import Database
from image_processor.outbound import Outbound
from image_processor.telemetry import emit
from image_processor.webhooks import verify
from image_processor.worker import courier
from image_processor.worker.courier import Couriers
from integration.post_office import PostOffice, at_work
from integration.workshop import in_thread
from migrated import put_migrated
from webhook_receiver import KEY, PATIENCE_SECONDS, SECRET, Receiver

DOCUMENT = Path(__file__).parents[2] / "docs" / "howto" / "receive-webhooks.md"


@pytest.fixture
def path(tmp_path):
    return put_migrated(tmp_path / "jobs.db")


@contextmanager
def offices(where, count, **options):
    """So many, each with connections of its own, as processes have."""
    databases = [Database.open(where, **options) for _ in range(count)]
    databases[0].migrate()
    opened = [PostOffice(database) for database in databases]
    yield opened
    for office in opened:
        office.close()
        office.database.close()


@pytest.fixture
def office(path):
    with offices(path, 1, busy_timeout_seconds=0.2) as (office,):
        yield office


@pytest.fixture
def receive():
    receivers = []

    def start(*answers):
        receivers.append(Receiver(*answers))
        return receivers[-1]

    yield start
    for receiver in receivers:
        receiver.close()


def test_a_receiver_is_told_what_it_can_verify(office, receive):
    receiver = receive()
    job = office.complete(receiver.url)
    office.send_one()
    (request,) = receiver.requests
    delivery = office.only(job)
    assert request.is_genuine
    assert request.event_id == delivery.delivery_id
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert request.headers["content-type"] == "application/json"
    assert request.path == "/hook?token=hidden"
    assert verify(SECRET, request.headers, request.body) == request.event
    assert request.event == {
        "type": "job.completed",
        "timestamp": delivery.created_at,
        "data": {**delivery.event, "urls": {"thumbnail": f"/storage/ada/{job.image_id}.webp"}},
    }
    assert (delivery.status, delivery.response_status, delivery.attempt_count) == ("delivered", 204, 1)


def test_the_receiver_of_the_documents_takes_what_is_genuine_and_refuses_the_rest(office):
    (example,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    names = {"__name__": "example"}
    exec(example.replace("whsec_...", SECRET).partition("\nHTTPServer(")[0], names)
    with names["HTTPServer"](("127.0.0.1", 0), names["Receiver"]) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        genuine, forged = office.complete(url), office.complete(url)
        for key in (KEY, bytes(32)):
            with in_thread(server.handle_request):
                office.send_one(key=key)
    assert (office.only(genuine).status, office.only(genuine).response_status) == ("delivered", 204)
    assert (office.only(forged).status, office.only(forged).response_status) == ("retrying", 401)


def test_a_failed_job_has_no_addresses(office, receive):
    receiver = receive()
    claim = office.claim(receiver.url)
    office.jobs.cancel(claim.job_id, "ada")
    office.jobs.end_cancelled(claim)
    office.send_one()
    assert receiver.requests[0].event["type"] == "job.failed"
    assert receiver.requests[0].event["data"] == office.only(claim).event
    assert receiver.requests[0].event["data"]["reason"] == "cancelled"


def test_it_is_tried_again_under_the_same_id_with_a_signature_of_its_own_time(office, receive):
    receiver = receive(500, 302, 404, 200)
    job = office.complete(receiver.url)
    with at_work(Couriers(office.courier())):
        requests = receiver.wait_for(4)
        office.wait_for(lambda: office.count("webhook.delivered") == 1)
    assert {request.event_id for request in requests} == {office.only(job).delivery_id}
    assert {request.body for request in requests} == {requests[0].body}
    assert all(request.is_genuine for request in requests)
    attempts = [fields["attempt"] for event, fields in office.told if event.startswith("webhook.")]
    assert attempts == [1, 2, 3, 4]
    assert (office.only(job).status, office.only(job).attempt_count) == ("delivered", 4)


def test_after_the_last_attempt_it_is_failed(office, receive):
    receiver = receive(*[503] * 9)
    job = office.complete(receiver.url)
    with at_work(Couriers(office.courier())):
        office.wait_for(lambda: office.count("webhook.failed") == 1)
    assert len(receiver.requests) == office.max_retries + 1
    assert office.only(job).last_error == "The receiver answered 503."


def test_gone_ends_it_at_once(office, receive):
    receiver = receive(410)
    job = office.complete(receiver.url)
    office.send_one()
    assert (office.only(job).status, office.only(job).response_status) == ("failed", 410)
    assert "no more callbacks" in office.only(job).last_error


class Paused(int):
    """A status that says how long to wait."""

    retry_after_seconds = 90.0


@dataclass(frozen=True)
class Answering:
    """A way out that always answers the same."""

    status: int

    def post(self, _url, _body, _headers, *, timeout_seconds):
        return self.status


@pytest.mark.parametrize(("status", "pause"), [(429, 90), (503, 90), (500, 0)])
def test_a_pause_is_granted_to_who_may_ask_for_it(office, status, pause):
    office.complete()
    office.send_one(outlet=Answering(Paused(status)))
    assert office.deliveries.next_due_in() == pytest.approx(pause, abs=4)


def test_a_receiver_that_never_answers_is_tried_again(office, receive):
    receiver = receive(0, 200)
    job = office.complete(receiver.url)
    office.send_one(timeout_seconds=0.3)
    assert (office.only(job).status, office.only(job).response_status) == ("retrying", None)
    assert "did not answer" in office.only(job).last_error
    office.send_one()
    assert office.only(job).status == "delivered"
    assert len({request.event_id for request in receiver.requests}) == 1


def test_where_nobody_listens_it_is_tried_again(office):
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    job = office.complete(f"http://127.0.0.1:{port}/")
    office.send_one()
    assert office.only(job).status == "retrying"
    assert "cannot be reached" in office.only(job).last_error


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "169.254.169.254", "10.0.0.8", "2130706433", "localhost"]
)
def test_a_private_address_is_refused_and_its_owner_sees_why(office, receive, host):
    receiver = receive()
    job = office.complete(receiver.url.replace("127.0.0.1", host))
    office.send_one(outlet=Outbound())
    delivery = office.only(job)
    assert (delivery.status, delivery.attempt_count, delivery.response_status) == ("failed", 1, None)
    assert delivery.last_error.endswith(".")
    assert "token" not in delivery.last_error
    assert receiver.requests == []


def test_a_bug_of_ours_costs_an_attempt_and_no_courier(office):
    job = office.complete()
    office.send_one(outlet=object())
    assert office.only(job).status == "retrying"
    assert "AttributeError" not in office.only(job).last_error


def test_a_replay_is_sent_under_the_same_id(office, receive):
    receiver = receive()
    job = office.complete(receiver.url)
    with at_work(Couriers(office.courier())):
        office.wait_for(lambda: office.count("webhook.delivered") == 1)
        office.deliveries.replay(office.only(job).delivery_id, "ada")
        office.wait_for(lambda: office.count("webhook.delivered") == 2)
    assert len({request.event_id for request in receiver.requests}) == 1
    assert all(request.is_genuine for request in receiver.requests)


@pytest.mark.parametrize("product", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_several_processes_never_send_one_attempt_twice(request, path, receive, product):
    where = request.getfixturevalue("postgres_url") if product == "postgresql" else path
    receiver = receive()
    with offices(where, 3) as (first, *others):
        jobs = [first.complete(receiver.url, user_id=f"user-{number % 7}") for number in range(24)]
        with at_work(*(Couriers(office.courier()) for office in (first, *others))):
            first.wait_for(lambda: first.count("webhook.delivered") == len(jobs))
        deliveries = [first.only(job) for job in jobs]
    sent = Counter(request.event_id for request in receiver.requests)
    assert sent == Counter(delivery.delivery_id for delivery in deliveries)
    assert {delivery.attempt_count for delivery in deliveries} == {1}


def test_a_receiver_that_is_slow_does_not_hold_up_the_others(office, receive):
    slow, quick = receive(*[0] * 8), receive()
    for _ in range(8):
        office.complete(slow.url, user_id="slow")
    for _ in range(8):
        office.complete(quick.url, user_id="quick")
    with at_work(Couriers(office.courier(timeout_seconds=PATIENCE_SECONDS))):
        quick.wait_for(8)
        assert len(slow.wait_for(2)) == 2
        slow.let_go.set()
        office.wait_for(lambda: office.count("webhook.delivered") == 16)


def test_a_job_that_comes_to_rest_in_this_process_is_told_of_at_once(office, receive, monkeypatch):
    monkeypatch.setattr(courier, "POLL_SECONDS", 3600.0)
    receiver = receive()
    with at_work(Couriers(office.courier())):
        for count in (1, 2):
            job = office.complete(receiver.url)
            emit("job.completed", job_id=job.job_id)
            office.wait_for(lambda count=count: office.count("webhook.delivered") == count)


def test_a_stop_hands_back_what_is_under_way(office, receive):
    receiver = receive(0, 200)
    job = office.complete(receiver.url)
    with at_work(Couriers(office.courier(), stop_grace_seconds=0.2)):
        receiver.wait_for(1)
    assert (office.only(job).status, office.only(job).attempt_count) == ("pending", 0)
    receiver.let_go.set()
    office.wait_for(lambda: office.count("webhook.lost") == 1)
    office.send_one()
    assert len({request.event_id for request in receiver.requests}) == 1


def test_an_outage_of_the_database_is_outlived(office, path, receive):
    receiver = receive(0)
    job = office.complete(receiver.url)
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as stranger,
        at_work(Couriers(office.courier())),
    ):
        receiver.wait_for(1)
        stranger.execute("begin immediate")
        receiver.let_go.set()
        office.wait_for(
            lambda: any("delivery_id" in fields for _, fields in office.told_of("courier.failed"))
        )
        stranger.execute("rollback")
        office.end_leases()
        office.wait_for(lambda: office.count("webhook.delivered") == 1)
    assert (office.only(job).status, office.only(job).attempt_count) == ("delivered", 2)


SENDER = """
import sys
from pathlib import Path
from image_processor.jobs import Database
from integration.post_office import PostOffice

PostOffice(Database.open(Path(sys.argv[1]))).send_one()
"""


@pytest.mark.slow
def test_a_courier_that_was_killed_is_replaced_under_the_same_id(office, path, receive):
    receiver = receive(0, 200)
    job = office.complete(receiver.url)
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, "-c", SENDER, path], env=environment)
    try:
        receiver.wait_for(1)
    finally:
        process.kill()
        process.wait()
    assert office.only(job).status == "delivering"
    office.end_leases()
    office.send_one()
    assert (office.only(job).status, office.only(job).attempt_count) == ("delivered", 2)
    assert len({request.event_id for request in receiver.requests}) == 1


def test_addresses_that_cannot_be_read_now_cost_no_attempt(office, receive):
    receiver = receive()
    job = office.complete(receiver.url)

    def unreadable(_image_id, _user_id):
        raise UnavailableError("The database is busy; try again later.")

    sender = office.courier()
    sender._urls_of = unreadable
    sender.deliver(office.deliveries.claim(60.0))
    assert (office.only(job).status, office.only(job).attempt_count) == ("retrying", 0)
    assert receiver.requests == []
