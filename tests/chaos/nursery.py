"""
Where the processes of a run come from: one that has imported everything, and forks at every line it reads.

A replacement stands in 20 ms in place of a second or more, so that there can be as many deaths as wanted. A
line is JSON, `{"role": ..., "log": ..., "arguments": [...]}`; the answers are `{"born": pid}` and, of each
child that has ended, `{"dead": pid, "status": ...}`. When its standard input ends, all end.
"""

import json
import os
import selectors
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from chaos import client, haste
from chaos.site import Site
from image_processor.errors import UnavailableError
from image_processor.lifeline import end_with_parent
from image_processor.settings import load_settings
from image_processor.worker import process

SITE = Site.here()
MOMENTS = haste.hasten(SITE)


def build_worker(settings, **given):
    return haste.build_worker(SITE, MOMENTS, settings, **given)


process.build_worker = build_worker


def worker(worker_id: str) -> int:
    return process.main(["--worker-id", worker_id])


def celery_worker(worker_id: str) -> int:
    from image_processor.transports.celery_app import app  # noqa: PLC0415 - an extra
    from image_processor.worker import celery_tasks  # noqa: PLC0415

    celery_tasks.build_worker = build_worker
    name = f"--hostname={worker_id}@chaos"
    app.worker_main(["worker", "--loglevel=warning", "--without-mingle", "--without-gossip", name])
    return 0


def sweeper() -> int:
    process.log_events(json=False)
    sweeper, never = build_worker(load_settings()).sweeper, threading.Event()
    threading.Thread(target=sweeper.run_cleaning, args=(never,), daemon=True).start()
    sweeper.run(never)
    return 0


def user() -> int:
    return client.run(SITE)


ROLES: dict[str, Callable[..., int]] = {
    "worker": worker,
    "celery": celery_worker,
    "sweeper": sweeper,
    "client": user,
}


def _be(order: dict, parent: int) -> None:
    """Become what was ordered, and end as such."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for given, wanted in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(given, wanted)
    os.setsid()
    end_with_parent(parent, signal.SIGKILL)
    status = 1
    try:
        status = ROLES[order["role"]](*order["arguments"])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except (
        UnavailableError
    ) as error:  # while the database is down nobody can start; who started it tries again
        sys.stderr.write(f"{order['role']} cannot go on: {error}\n")
    except BaseException:  # noqa: BLE001 - it goes to the log, as it would elsewhere
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def _bury() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say(dead=pid, status=os.waitstatus_to_exitcode(status))


def main() -> None:
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing)
    orders = selectors.DefaultSelector()
    orders.register(sys.stdin, selectors.EVENT_READ)
    orders.register(reading, selectors.EVENT_READ)
    parent = os.getpid()
    if os.environ["QUEUE_BACKEND"] == "celery":
        import image_processor.worker.celery_tasks  # noqa: F401, PLC0415
    Path(SITE.folder, "nursery").touch()
    while True:
        for key, _ in orders.select():
            if key.fd == reading:
                os.read(reading, 4096)
                _bury()
                continue
            line = sys.stdin.readline()
            if not line:
                return
            if (pid := os.fork()) == 0:
                _be(json.loads(line), parent)
            _say(born=pid)


if __name__ == "__main__":
    main()
