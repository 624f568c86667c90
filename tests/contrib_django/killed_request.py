"""Requests that end by SIGKILL at one of their steps, each in a process of its own; a test says at which."""

import json
import os
import signal
import sys
from collections.abc import Callable
from functools import cache, partial

import django
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "contrib_django.settings")
django.setup()

from django.db import connection, connections  # noqa: E402 - once Django is set up

from contrib_django.gallery.models import Profile  # noqa: E402
from image_processor.contrib.django.completion import complete  # noqa: E402
from image_processor.contrib.django.queues import Pending  # noqa: E402
from image_processor.contrib.django.rendering import LocalRenderer, local_renderer  # noqa: E402


class Steps:
    """What was done so far; at the last one the process ends as if its machine had."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.last = 0

    def take(self, step: str) -> None:
        self.taken.append(step)
        if len(self.taken) == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


STEPS = Steps()


class HalvedContent(ContentFile):
    """Written in two halves."""

    def chunks(self, chunk_size=None):
        data = self.read()
        yield data[: len(data) // 2]
        STEPS.take("half a file")
        yield data[len(data) // 2 :]


class MortalStorage(FileSystemStorage):
    def _save(self, name, content):
        STEPS.take("before a file")
        name = super()._save(name, HalvedContent(content.read()))
        STEPS.take("a file")
        return name

    def _open(self, name, mode="rb"):
        STEPS.take("before a file is read")
        return super()._open(name, mode)

    def delete(self, name):
        STEPS.take("before a removal")
        super().delete(name)
        STEPS.take("a removal")


def mortal_statement(execute, sql, params, many, context):
    STEPS.take(f"before {sql[:6]}")
    result = execute(sql, params, many, context)
    STEPS.take(sql[:6])
    return result


def mortal_commit(commit: Callable[[], None]) -> None:
    STEPS.take("before commit")
    commit()
    STEPS.take("commit")


def save(row: Profile, picture: ContentFile) -> None:
    row.picture = picture
    row.save()


def clear(row: Profile, _: ContentFile) -> None:
    row.picture = None
    row.save()


def delete(row: Profile, _: ContentFile) -> None:
    row.delete()


def finish(row: Profile, _: ContentFile) -> None:
    complete(Pending("gallery.Profile", str(row.pk), "picture", row.picture.name))


WAYS = {way.__name__: way for way in (save, clear, delete, finish)}


def request(way: str, last: int, pk: int, picture: ContentFile) -> None:
    """The request, in a process of its own; it tells its steps if it lives."""
    row = Profile.objects.get(pk=pk)
    connection._commit = partial(mortal_commit, connection._commit)
    STEPS.last = last
    with connection.execute_wrapper(mortal_statement):
        WAYS[way](row, picture)
    print(json.dumps(STEPS.taken), flush=True)


def forked(call: Callable[[], None]) -> int:
    """The signal that ended it, or 0."""
    pid = os.fork()
    if pid == 0:
        try:
            call()
            connections.close_all()
        except BaseException:  # noqa: BLE001 - the fork is not to go on with the loop of its parent
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status <= 0, status
    return -status


def main() -> None:
    """Each line: a way, the step that is the last, the key of the row; the answer ends with the signal."""
    default_storage._wrapped = MortalStorage()
    picture = ContentFile(sys.stdin.buffer.read(int(sys.argv[1])), name="me.jpg")
    field = Profile._meta.get_field("picture")
    field.prepared(picture)  # as a form does it before: the process that decodes is no step
    known = cache(local_renderer().render)
    known(picture.open().read(), field.preset)
    local_renderer().close()
    LocalRenderer.render = lambda _, source, preset: known(source, preset)
    Profile.objects.first()  # what that imports is imported once
    connections.close_all()
    while line := sys.stdin.buffer.readline():
        way, last, pk = json.loads(line)
        print(json.dumps(forked(partial(request, way, last, pk, picture))), flush=True)


if __name__ == "__main__":
    main()
