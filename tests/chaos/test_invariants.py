"""Everything dies, sleeps and forgets at random while jobs are worked on; afterwards no promise is broken."""

import os
import random
import time
from contextlib import closing

import pytest

from chaos.figures import figures
from chaos.invariants import violations
from chaos.run import Run, Servers
from chaos.site import Site
from image_processor.testing import sample_images

IS_LONG = os.environ.get("CHAOS") == "1"
"""`make chaos`: every combination, with 300 jobs each."""
SEED = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
COMBINATIONS = [
    (database, queue) for database in ("sqlite", "postgres") for queue in ("embedded", "redis", "celery")
]
IN_SHORT = [("sqlite", "embedded"), ("postgres", "redis")]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def servers(request, database, queue):
    given = {"backend": queue}
    if database == "postgres":
        given |= {
            "postgres": request.getfixturevalue("postgres"),
            "database_url": request.getfixturevalue("postgres_url"),
        }
    if queue != "embedded":
        request.getfixturevalue("redis_url")
        given["valkey"] = request.getfixturevalue("valkey")
    return Servers(**given)


@pytest.mark.parametrize(("database", "queue"), COMBINATIONS if IS_LONG else IN_SHORT)
def test_no_promise_is_broken(tmp_path, servers, queue_namespace, database, queue):
    print(f"\n{database} and {queue}: CHAOS_SEED={SEED}")
    site = Site(folder=str(tmp_path), seed=SEED, is_long=IS_LONG, started_at=time.monotonic() + 1.0)
    (tmp_path / "picture.jpg").write_bytes(sample_images.photo(300, 200))
    with closing(Run(site, servers, queue_namespace)) as run:
        run.start()
        run.suffer()
        run.settle()
        run.stop()
        evidence = run.evidence()
        for what, figure in figures(run, evidence).items():
            print(f"  {what}: {figure}")
        broken = violations(evidence)
        assert not broken, "\n".join([f"CHAOS_SEED={SEED}", *broken[:40]])
