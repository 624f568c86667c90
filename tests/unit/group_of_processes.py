"""A process group as a process: `group_of_processes.py GRACE NAME=CODE ...`; its events as JSON lines."""

import json
import os
import sys

from image_processor.cli.process_group import Member, ProcessGroup
from image_processor.telemetry import emit, subscribe


def tell(event, fields):
    os.write(1, (json.dumps({"event": event, **fields}) + "\n").encode())


def member(name, code):
    return Member(
        name=name,
        command=lambda: [sys.executable, "-c", code, str(os.getpid())],
        on_death=lambda: emit("on.death", name=name),
    )


def main(grace, *codes):
    subscribe(tell)
    members = [member(*given.split("=", 1)) for given in codes]
    ProcessGroup(members, grace_seconds=float(grace)).run()
    emit("group.stopped")


if __name__ == "__main__":
    main(*sys.argv[1:])
