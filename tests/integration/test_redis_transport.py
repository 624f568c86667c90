"""The lists in Redis against a real Valkey that is killed, flushed, frozen, deaf and gone."""

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import redis

from fault_proxy import FaultProxy, Mode
from image_processor.errors import ConfigurationError, UnavailableError
from image_processor.telemetry import subscribe
from image_processor.transports.redis_list import REPLY_SECONDS, RedisTransport
from valkey_server import valkey_server

PROMISED_SECONDS = 0.3
SOON_SECONDS = 20.0
SHORT_SECONDS = 0.05
ROUNDS = 3
"""A machine that is busy elsewhere may be late once; not every time."""

TAKER = """
import json, sys
from image_processor.transports.redis_list import RedisTransport
url, namespace, worker_id, count = sys.argv[1:]
transport = RedisTransport(url, namespace=namespace, worker_id=worker_id)
taken = 0
while taken < int(count) and (hint := transport.receive(1)):
    taken += 1
    print(json.dumps(hint.job_id), flush=True)
    if sys.stdin.readline().strip() == "acknowledge":
        hint.acknowledge()
transport.close()
"""


@pytest.fixture
def new_transport(redis_url, queue_namespace):
    opened = []

    def new(url=redis_url, **options) -> RedisTransport:
        opened.append(RedisTransport(url, namespace=queue_namespace, **options))
        return opened[-1]

    yield new
    for transport in opened:
        transport.close()


@pytest.fixture
def transport(new_transport) -> RedisTransport:
    return new_transport()


@pytest.fixture
def broker(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def proxy(valkey, redis_url):
    with FaultProxy(valkey.port) as proxy:
        yield proxy


@pytest.fixture
def behind_proxy(new_transport, proxy):
    return lambda: new_transport(f"redis://127.0.0.1:{proxy.port}/0")


@pytest.fixture
def events():
    told = []
    unsubscribe = subscribe(lambda event, fields: told.append((event, fields)))
    yield told
    unsubscribe()


@pytest.fixture
def taker(redis_url, queue_namespace):
    """Starts processes that take hints one by one, each as the test tells it to."""

    @contextmanager
    def start(worker_id, count):
        command = [sys.executable, "-c", TAKER, redis_url, queue_namespace, worker_id, str(count)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    return start


def seconds_of(action):
    started = time.monotonic()
    outcome = action()
    return outcome, time.monotonic() - started


def seconds_of_failure(transport) -> float:
    is_published, seconds = seconds_of(lambda: transport.publish("job-1", 1))
    assert not is_published
    return seconds


def until(condition):
    """Ask again and again; there is no event to wait for in another process."""
    ends_at = time.monotonic() + SOON_SECONDS
    while not (outcome := condition()):
        assert time.monotonic() < ends_at
        time.sleep(SHORT_SECONDS / 5)
    return outcome


def received(transport) -> str:
    return until(lambda: transport.receive(1)).job_id


def in_thread(target, *arguments) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread


# Publishing


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.BLACK_HOLE, Mode.DEAF, Mode.RESET, Mode.HALF_REPLY])
@pytest.mark.parametrize("is_connected", [True, False])
def test_a_publish_that_fails_takes_at_most_300_ms(proxy, behind_proxy, mode, is_connected):
    def publish() -> float:
        proxy.mode = Mode.PASS
        transport = behind_proxy()
        assert not is_connected or until(lambda: transport.publish("job-1", 1))
        proxy.mode = mode
        return seconds_of_failure(transport)

    assert any(publish() <= PROMISED_SECONDS for _ in range(ROUNDS))


@pytest.mark.slow
def test_a_resolver_that_hangs_costs_one_publish_300_ms_and_the_others_nothing(new_transport, monkeypatch):
    answer, resolve = threading.Event(), socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words: answer.wait(SOON_SECONDS) and resolve(*words))
    assert any(seconds_of_failure(new_transport()) <= PROMISED_SECONDS for _ in range(ROUNDS))
    transport = new_transport()
    seconds_of_failure(transport)
    assert any(seconds_of_failure(transport) <= PROMISED_SECONDS / 10 for _ in range(ROUNDS))
    answer.set()
    assert until(lambda: transport.publish("job-2", 1))


@pytest.mark.slow
def test_a_broker_that_is_gone_costs_only_one_publish_its_time(proxy, behind_proxy, events):
    transport = behind_proxy()
    proxy.mode = Mode.BLACK_HOLE
    assert not transport.publish("job-0", 1)
    came = proxy.accepted
    published, seconds = seconds_of(lambda: [transport.publish(f"job-{n}", 1) for n in range(200)])
    assert not any(published)
    assert proxy.accepted - came <= 1 + seconds  # it is tried once in a second and a quarter
    assert seconds < 0.5 * 200 * PROMISED_SECONDS
    proxy.mode = Mode.PASS
    until(lambda: transport.publish("job-1", 1))
    assert [event for event, _ in events] == ["transport.publish.failed", "transport.publish.recovered"]
    assert received(transport) == "job-1"


def test_after_a_failure_it_connects_anew_as_the_old_connection_may_lead_to_a_replica(
    proxy, behind_proxy, broker
):
    transport = behind_proxy()
    assert transport.publish("job-1", 1)
    broker.replicaof("127.0.0.1", "1")
    try:
        assert not transport.publish("job-2", 1)
    finally:
        broker.replicaof("NO", "ONE")
    until(lambda: transport.publish("job-3", 1))
    assert proxy.accepted == 2


# Receiving


def test_strict_priority_and_the_oldest_first_within_one(transport):
    jobs = [(number % 3, f"job-{number:02}") for number in range(59, -1, -1)]
    for priority, job_id in jobs:
        transport.publish(job_id, priority)
    in_order = [job_id for _, job_id in sorted(jobs, key=lambda job: job[0])]
    assert [received(transport) for _ in range(30)] == in_order[:30]
    transport.publish("urgent", 0)
    assert [received(transport) for _ in range(31)] == ["urgent", *in_order[30:]]


@pytest.mark.slow
def test_nobody_gets_what_another_got(new_transport, taker):
    transport = new_transport(worker_id="threads")
    published = [f"job-{number}" for number in range(400)]
    for number, job_id in enumerate(published):
        assert transport.publish(job_id, number % 3)
    taken = []

    def take():
        while hint := transport.receive(1):
            taken.append(hint.job_id)
            hint.acknowledge()

    def take_by(process):
        for line in process.stdout:
            taken.append(json.loads(line))
            process.stdin.write("acknowledge\n")

    with taker("process-1", 400) as one, taker("process-2", 400) as other:
        takers = [in_thread(take_by, one), in_thread(take_by, other)]
        until(lambda: len(taken) >= 20)
        takers += [in_thread(take) for _ in range(4)]
        for thread in takers:
            thread.join(SOON_SECONDS)
    assert sorted(taken) == sorted(published)
    assert transport.depth() == 0


def test_the_hints_of_a_killed_worker_come_back_in_their_order_and_those_of_the_living_stay(
    new_transport, taker, broker
):
    living, survivor = new_transport(worker_id="living"), new_transport(worker_id="survivor")
    living.publish("living-1", 0)
    held = living.receive(SOON_SECONDS)
    for number in range(5):
        living.publish(f"job-{number}", 2)
    with taker("dead", 3) as process:
        taken = []
        for word in ("acknowledge", "keep", None):
            taken.append(json.loads(process.stdout.readline()))
            if word:
                process.stdin.write(f"{word}\n")
        process.kill()
    assert taken == ["job-0", "job-1", "job-2"]
    assert survivor.reclaim(["living", "dead"]) == 0
    assert survivor.reclaim(["living"]) == 2
    assert [received(survivor) for _ in range(4)] == ["job-1", "job-2", "job-3", "job-4"]
    assert survivor.depth() == 0
    held.acknowledge()
    assert not [key for key in broker.scan_iter() if "dead" in key or key.endswith("inprog:living")]


def test_an_unknown_hint_is_dropped_and_the_next_one_taken(transport, broker, queue_namespace, events):
    for entry in (b"2:0:job-1", b"\xff\x00", b"", b"1:0:two words", b"1:7:job-1"):
        broker.lpush(f"{{{queue_namespace}}}:high", entry)
    transport.publish("job-1", 0)
    assert received(transport) == "job-1"
    assert broker.lrange(f"{{{queue_namespace}}}:inprog:{transport._worker_id}", 0, -1) == ["1:0:job-1"]
    assert [event for event, _ in events] == ["transport.hint.refused"] * 5


@pytest.mark.slow
def test_a_hint_whose_reply_was_lost_comes_again(proxy, behind_proxy, new_transport):
    transport = behind_proxy()
    new_transport().publish("job-1", 1)
    assert received(transport) == "job-1"
    new_transport().publish("job-2", 1)
    proxy.mode = Mode.DEAF
    assert transport.receive(SHORT_SECONDS) is None
    proxy.mode = Mode.PASS
    assert received(transport) == "job-2"
    assert transport.receive(SHORT_SECONDS) is None


def test_an_acknowledgement_that_was_lost_is_made_good(proxy, behind_proxy, broker, queue_namespace):
    transport = behind_proxy()
    transport.publish("job-1", 1)
    hint = transport.receive(SOON_SECONDS)
    proxy.mode = Mode.REFUSE
    hint.acknowledge()
    proxy.mode = Mode.PASS
    assert received(transport) == "job-1"


@pytest.mark.slow
@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.RESET, Mode.BLACK_HOLE])
def test_a_dead_broker_gives_none_in_the_time_without_spinning(proxy, behind_proxy, mode):
    proxy.mode = mode
    transport = behind_proxy()
    for _ in range(2):
        hint, seconds = seconds_of(lambda: transport.receive(0.4))
        assert hint is None
        assert 0.39 <= seconds < 5
    assert proxy.accepted <= 2


@pytest.mark.slow
def test_a_wait_that_never_settles_ends_soon_after_its_time(proxy, behind_proxy, valkey):
    transport = behind_proxy()
    assert transport.receive(SHORT_SECONDS) is None
    waiter = in_thread(transport.receive, 0.5)
    until(lambda: b"blocked_clients:1" in valkey.command("INFO clients"))
    proxy.mode = Mode.BLACK_HOLE
    waiter.join(5)
    assert not waiter.is_alive()


@pytest.mark.slow
def test_receiving_survives_the_death_of_the_server(new_transport, tmp_path):
    with valkey_server(tmp_path) as server:
        transport = new_transport(server.url)
        got = []
        waiter = in_thread(lambda: got.append(transport.receive(0.5)))
        until(lambda: b"blocked_clients:1" in server.command("INFO clients"))
        server.kill()
        waiter.join(SOON_SECONDS)
        assert got == [None]
        assert transport.receive(SHORT_SECONDS) is None
        server.start()
        until(lambda: transport.publish("job-1", 1))
        assert received(transport) == "job-1"


def test_a_close_wakes_all_who_wait_and_leaves_others_asleep(new_transport, valkey, broker):
    closing, other = new_transport(), new_transport()
    waiters = [in_thread(closing.receive, 60) for _ in range(3)]
    bystander = in_thread(other.receive, 60)
    until(lambda: b"blocked_clients:4" in valkey.command("INFO clients"))
    closing.close()
    for waiter in waiters:
        waiter.join(SOON_SECONDS)
    assert not any(waiter.is_alive() for waiter in waiters)
    assert bystander.is_alive()
    other.close()
    bystander.join(SOON_SECONDS)


@pytest.mark.slow
def test_a_long_wait_is_one_wait_on_one_connection(proxy, behind_proxy, broker):
    transport = behind_proxy()
    broker.config_resetstat()
    assert transport.receive(REPLY_SECONDS + 0.3) is None
    assert broker.info("commandstats")["cmdstat_blpop"]["calls"] == 1
    assert proxy.accepted == 1


def test_a_connection_that_the_server_ended_is_replaced_at_once(new_transport, broker):
    transport = new_transport()
    assert transport.receive(SHORT_SECONDS) is None
    broker.client_kill_filter(_type="normal", skipme=True)
    new_transport().publish("job-1", 1)
    assert transport.receive(SOON_SECONDS).job_id == "job-1"


@pytest.mark.slow
def test_a_close_is_soon_done_though_the_broker_is_silent(proxy, behind_proxy, valkey):
    transport = behind_proxy()
    waiter = in_thread(transport.receive, 3)
    until(lambda: b"blocked_clients:1" in valkey.command("INFO clients"))
    proxy.mode = Mode.BLACK_HOLE
    _, seconds = seconds_of(transport.close)
    assert seconds < 5
    waiter.join(SOON_SECONDS)
    assert not waiter.is_alive()


# The life of the broker


def test_a_flush_changes_the_epoch(transport, valkey):
    before = transport.epoch()
    assert transport.epoch() == before
    valkey.flush()
    assert transport.epoch() != before


def test_a_restart_with_an_old_dump_changes_the_epoch_though_the_dump_remembers_it(new_transport, tmp_path):
    with valkey_server(tmp_path) as server:
        transport = new_transport(server.url)
        before = transport.epoch()
        transport.publish("old", 1)
        assert server.command("SAVE").startswith(b"+OK")
        transport.publish("lost", 1)
        server.restart()
        after = until(lambda: _epoch(transport))
        assert transport.depth() == 1
    assert after != before
    assert after.partition(":")[2] == before.partition(":")[2]


def _epoch(transport):
    try:
        return transport.epoch()
    except UnavailableError:
        return None


def test_a_broker_that_cannot_be_asked_is_unavailable_and_soon_so(proxy, behind_proxy):
    transport = behind_proxy()
    proxy.mode = Mode.BLACK_HOLE
    for ask in (transport.depth, transport.epoch, lambda: transport.reclaim(())):
        with pytest.raises(UnavailableError):
            ask()
    _, seconds = seconds_of(lambda: [_epoch(transport) for _ in range(20)])
    assert seconds < 5


def test_a_broker_that_may_evict_is_worth_one_warning(new_transport, broker, events):
    new_transport().epoch()
    assert events == []
    broker.config_set("maxmemory-policy", "allkeys-lru")
    try:
        transport = new_transport()
        for _ in range(2):
            transport.epoch()
    finally:
        broker.config_set("maxmemory-policy", "noeviction")
    fields = {"setting": "maxmemory-policy", "value": "allkeys-lru", "wanted": "noeviction"}
    assert events == [("transport.settings.warning", fields)]


# What is asked of whoever sets it up


def test_all_keys_lie_together(transport, broker, queue_namespace):
    transport.epoch()
    for _ in range(2):
        transport.publish("job-1", 1)
    received(transport)
    assert {key.partition(":")[0] for key in broker.scan_iter()} == {f"{{{queue_namespace}}}"}
    assert broker.dbsize() == 5


def test_a_url_that_is_none_is_a_wrong_configuration_and_its_password_is_not_told():
    with pytest.raises(ConfigurationError, match="REDIS_URL") as raised:
        RedisTransport("redis://user:secret/word@host:6379", namespace="x")
    assert "secret" not in str(raised.value)


def test_a_password_and_a_database_of_its_own(tmp_path, new_transport):
    with valkey_server(tmp_path, requirepass="sesame") as server:
        transport = new_transport(f"redis://:sesame@127.0.0.1:{server.port}/3")
        assert transport.publish("job-1", 1)
        assert received(transport) == "job-1"
        assert not new_transport(f"redis://:wrong@127.0.0.1:{server.port}/3").publish("job-1", 1)


def test_without_the_client_library_the_extra_is_named():
    program = """if True:
        import sys
        sys.modules["redis"] = None
        from image_processor.transports.redis_list import RedisTransport
        print("imported")
        RedisTransport("redis://localhost", namespace="x")"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.stdout == "imported\n"
    assert "MissingExtraError" in ended.stderr
    assert "pip install image-processor[redis]" in ended.stderr
