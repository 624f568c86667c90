"""Each combination of database and transport is started once; all tests run on it, then on the next one."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conformance.deployment import Deployment
from fault_proxy import FaultProxy, Mode
from postgres_server import PostgresServer
from running_service import IS_SOAK
from valkey_server import valkey_server

DATABASES = ("sqlite", "postgresql")
TRANSPORTS = ("embedded", "redis", "celery")
COMBINATIONS = [f"{database}-{transport}" for database in DATABASES for transport in TRANSPORTS]
IN_FULL = ("sqlite-embedded", "sqlite-celery", "postgresql-redis")
"""Each database and each transport once; the others do what lies between the two, and all in `make soak`."""
BETWEEN_THE_TWO = (
    "test_uploads_and_jobs_complete",
    "test_what_a_killed_worker_left_another_one_finishes",
    "test_what_a_broker_forgets_is_dispatched_again",
    "test_of_many_claims_one_wins_and_a_waiting_job_is_cancelled_at_once",
    "test_at_the_end_nothing_is_lost_and_nothing_is_left",
)


def pytest_collection_modifyitems(config, items):
    left_out = [item for item in items if not (IS_SOAK or _is_wanted(item))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def _is_wanted(item) -> bool:
    if item.path.parent != Path(__file__).parent or not hasattr(item, "callspec"):
        return True
    return item.callspec.params["combination"] in IN_FULL or item.originalname in BETWEEN_THE_TWO


@dataclass
class Fleet:
    """Starts the deployment that is needed next, and ends the one before, beside the tests of this one."""

    folders: pytest.TempPathFactory
    names: list[str]
    shared: ExitStack
    threads: ThreadPoolExecutor
    postgres: PostgresServer | None = None
    started: dict[str, Future] = field(default_factory=dict)
    ended: list[Future] = field(default_factory=list)

    def take(self, name: str) -> Deployment:
        at = self.names.index(name)
        for needed in self.names[at : at + 2]:
            if needed not in self.started:
                self.started[needed] = self.threads.submit(self._start, needed)
        deployment, _ = self.started[name].result()
        return deployment

    def _start(self, name: str) -> tuple[Deployment, ExitStack]:
        database, transport = name.split("-")
        folder = self.folders.mktemp(name)
        with ExitStack() as stack:
            url = self._new_database(stack) if database == "postgresql" else ""
            deployment = Deployment(name, folder, transport, url)
            if transport != "embedded":
                deployment.broker = stack.enter_context(valkey_server(folder))
                deployment.proxy = stack.enter_context(FaultProxy(deployment.broker.port))
            stack.callback(deployment.stop)
            deployment.start()
            return deployment, stack.pop_all()

    def _new_database(self, stack: ExitStack) -> str:
        if self.postgres is None:
            self.postgres = PostgresServer(fsync=False)
            self.shared.callback(self.postgres.close)
            self.postgres.start()
        url = self.postgres.new_database()
        stack.callback(self.postgres.drop_database, url)
        return url

    def give_back(self, name: str) -> None:
        _, stack = self.started[name].result()
        self.ended.append(self.threads.submit(stack.close))

    def close(self) -> None:
        for ended in self.ended:
            ended.result()


@pytest.fixture(scope="session")
def fleet(request, tmp_path_factory):
    params = (getattr(item, "callspec", None) for item in request.session.items)
    names = dict.fromkeys(
        given.params["combination"] for given in params if given and "combination" in given.params
    )
    with ExitStack() as shared, ThreadPoolExecutor(1) as threads:
        fleet = Fleet(tmp_path_factory, list(names), shared, threads)
        yield fleet
        fleet.close()


@pytest.fixture(scope="session", params=COMBINATIONS)
def combination(request, fleet):
    yield fleet.take(request.param)
    fleet.give_back(request.param)


@pytest.fixture
def deployment(combination):
    """The combination at hand, healed from what the test before did to it."""
    if combination.proxy is not None:
        combination.proxy.mode = Mode.PASS
        combination.broker.start()
    combination.mend()
    return combination


@pytest.fixture
def brokered(deployment):
    """The same, where there is a broker."""
    if deployment.broker is None:
        pytest.skip("there is no broker")
    return deployment
