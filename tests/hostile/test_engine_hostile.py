"""The isolated engine against children that hang, die, are greedy or lie. Real processes, real signals."""

import contextlib
import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest

from image_processor.engine import wire
from image_processor.engine.base import RenderRequest
from image_processor.engine.isolate import ENVIRONMENT, IsolatedEngine
from image_processor.engine.sandbox import MIB, describe
from image_processor.errors import (
    CorruptImageError,
    EngineCrashedError,
    EngineError,
    EngineTimeoutError,
    ImageTooComplexError,
    InvalidRequestError,
    RejectedError,
)
from image_processor.pipeline import (
    Flop,
    ImageFormat,
    Limits,
    Pipeline,
    PngOutput,
    Resize,
    Rotate,
    Variant,
    WebpOutput,
)
from image_processor.testing import sample_images
from pictures import pipeline_of

pytestmark = pytest.mark.slow
SMALL = pipeline_of(Resize(width=64), output=WebpOutput())
DEADLINE = 30.0


@pytest.fixture
def engine(tmp_path):
    engine = IsolatedEngine(readable=(tmp_path,), writable=(tmp_path / "out",))
    yield engine
    engine.close()


@pytest.fixture(autouse=True)
def out(tmp_path):
    (tmp_path / "out").mkdir()


@pytest.fixture
def job(tmp_path):
    """What is asked of the engine, unless a test asks for something else."""

    def request(pipeline=SMALL, original=None, kind="jpeg"):
        source = tmp_path / "original"
        source.write_bytes(sample_images.photo() if original is None else original)
        return RenderRequest(
            source=source,
            source_format=ImageFormat(kind),
            pipeline=pipeline,
            output_directory=tmp_path / "out",
            limits=Limits(max_bytes=10**9),
        )

    return request


@pytest.fixture
def beside():
    """A second thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def stopped_child(engine):
    """The pid of a started child that does nothing until SIGCONT: as far as its parent can see, it hangs."""
    engine.protections()
    os.kill(engine.child_pid, signal.SIGSTOP)
    return engine.child_pid


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        threading.Event().wait(0.005)


def wait_until_asked(engine):
    """Until the request lies in the pipe of a child that is stopped."""

    def unread():
        return struct.unpack("i", fcntl.ioctl(engine._child._pipes[0], termios.FIONREAD, bytes(4)))[0]

    wait_until(lambda: unread() > 0)


def assert_gone(pid):
    wait_until(lambda: not psutil.pid_exists(pid))


def assert_works(engine, job):
    assert engine.render(job(), deadline_seconds=DEADLINE).variants[0].width == 64


class TestHanging:
    def test_is_killed_at_the_deadline(self, engine, job):
        pid = stopped_child(engine)
        started = time.monotonic()
        with pytest.raises(EngineTimeoutError):
            engine.render(job(), deadline_seconds=1.5)
        assert 1.4 < time.monotonic() - started < 8
        assert_gone(pid)
        assert_works(engine, job)

    def test_real_work_is_killed_at_the_deadline(self, engine, job):
        endless = pipeline_of(Resize(width=9000, allow_enlarge=True), output=WebpOutput(lossless=True))
        large = job(endless, sample_images.photo(3000, 3000))
        engine.protections()
        pid, started = engine.child_pid, time.monotonic()
        with pytest.raises(EngineTimeoutError):
            engine.render(large, deadline_seconds=1.0)
        assert 0.9 < time.monotonic() - started < 8
        assert_gone(pid)
        assert_works(engine, job)

    def test_a_deadline_that_is_over_before_the_child_is_up(self, engine, job):
        with pytest.raises(EngineTimeoutError):
            engine.render(job(), deadline_seconds=0.01)
        assert_works(engine, job)

    def test_a_child_that_does_not_read_cannot_hold_up_a_long_request(self, engine, job):
        """A pipe takes 64 KiB: a blocking write of more would wait for ever."""
        operations = tuple(Flop() if at % 2 else Rotate(degrees=270) for at in range(20))
        variants = tuple(
            Variant(name=f"v{at}", operations=operations, output=PngOutput()) for at in range(50)
        )
        long = job(Pipeline(variants=variants))
        for _ in range(2):
            stopped_child(engine)
            with pytest.raises(EngineTimeoutError):
                engine.render(
                    long.model_copy(update={"source": Path("/" + "x" * 70_000)}), deadline_seconds=0.5
                )

    def test_a_request_that_is_too_long_is_refused(self, engine, job):
        too_long = job().model_copy(update={"source": Path("/" + "x" * wire.MAX_FRAME_BYTES)})
        with pytest.raises(InvalidRequestError, match="too long"):
            engine.render(too_long, deadline_seconds=DEADLINE)
        assert engine.child_pid is None

    def test_a_second_caller_waits_no_longer_than_its_deadline(self, engine, job, beside):
        stopped_child(engine)
        first = beside.submit(engine.render, job(), deadline_seconds=3)
        wait_until_asked(engine)
        started = time.monotonic()
        with pytest.raises(EngineTimeoutError, match="busy"):
            engine.render(job(), deadline_seconds=0.3)
        assert time.monotonic() - started < 5
        engine.interrupt()
        with pytest.raises(EngineCrashedError):
            first.result()


class TestDying:
    @pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGKILL])
    def test_is_seen_at_once_and_named(self, engine, job, beside, number):
        pid = stopped_child(engine)
        rendering = beside.submit(engine.render, job(), deadline_seconds=DEADLINE)
        wait_until_asked(engine)
        started = time.monotonic()
        os.kill(pid, number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        with pytest.raises(EngineCrashedError, match=number.name):
            rendering.result()
        assert time.monotonic() - started < 5
        assert_works(engine, job)

    def test_between_two_jobs_is_nobody_s_failure(self, engine, job):
        assert_works(engine, job)
        pid = engine.child_pid
        os.kill(pid, signal.SIGKILL)
        wait_until(engine._child.has_changed)
        assert_works(engine, job)
        assert engine.child_pid != pid

    def test_dies_with_its_parent_even_when_it_hangs(self, tmp_path):
        script = (
            "import sys, pathlib\n"
            "from image_processor.engine.isolate import IsolatedEngine\n"
            "engine = IsolatedEngine(readable=(), writable=())\n"
            "engine.protections()\n"
            "print(engine.child_pid, flush=True)\n"
            "sys.stdin.read()\n"
        )
        command = [sys.executable, "-c", script]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
            pid = int(parent.stdout.readline())
            os.kill(pid, signal.SIGSTOP)
            parent.kill()
        assert_gone(pid)

    def test_outlives_the_thread_that_rendered_first(self, engine, job):
        thread = threading.Thread(target=engine.render, args=(job(),), kwargs={"deadline_seconds": DEADLINE})
        thread.start()
        thread.join()
        pid = engine.child_pid
        assert_works(engine, job)
        assert engine.child_pid == pid

    def test_is_replaced_after_its_jobs(self, tmp_path, job):
        engine = IsolatedEngine(readable=(tmp_path,), writable=(tmp_path / "out",), max_jobs=2)
        pids = []
        for _ in range(5):
            assert_works(engine, job)
            pids.append(engine.child_pid)
        engine.close()
        assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
        assert_gone(pids[4])

    def test_leaves_no_descriptors_behind(self, tmp_path, job):
        def descriptors():
            return len(list(Path("/proc/self/fd").iterdir()))

        before = descriptors()
        for _ in range(4):
            engine = IsolatedEngine(readable=(tmp_path,), writable=(tmp_path / "out",), max_jobs=1)
            assert_works(engine, job)
            assert_works(engine, job)
            engine.close()
        assert descriptors() == before


class TestInterrupting:
    def test_ends_a_render_in_another_thread(self, engine, job, beside):
        pid = stopped_child(engine)
        rendering = beside.submit(engine.render, job(), deadline_seconds=DEADLINE)
        wait_until_asked(engine)
        started = time.monotonic()
        engine.interrupt()
        with pytest.raises(EngineCrashedError, match="interrupted"):
            rendering.result()
        assert time.monotonic() - started < 5
        assert_gone(pid)
        assert_works(engine, job)

    def test_never_harms_the_next_render(self, engine, job, beside):
        """At any moment: while the child starts, works, answers or is idle."""
        moments = random.Random(4)
        outcomes = set()
        for _ in range(25):
            rendering = beside.submit(engine.render, job(), deadline_seconds=DEADLINE)
            threading.Event().wait(moments.random() * 0.5)
            engine.interrupt()
            outcomes.add(type(rendering.exception()))
            assert_works(engine, job)
        assert outcomes <= {type(None), EngineCrashedError}

    def test_that_comes_behind_the_answer_does_not_harm_the_next_render(self, tmp_path, job):
        class InterruptedLate(IsolatedEngine):
            def _understand(self, *answer):
                rendering = super()._understand(*answer)
                self.interrupt()
                return rendering

        late = InterruptedLate(readable=(tmp_path,), writable=(tmp_path / "out",))
        with contextlib.closing(late) as engine:
            for _ in range(5):
                assert engine.render(job(), deadline_seconds=DEADLINE).variants

    def test_closing_ends_a_render_and_the_child(self, engine, job, beside):
        pid = stopped_child(engine)
        rendering = beside.submit(engine.render, job(), deadline_seconds=DEADLINE)
        wait_until_asked(engine)
        engine.close()
        with pytest.raises(EngineCrashedError):
            rendering.result()
        assert_gone(pid)


class TestGreed:
    def test_the_memory_limit_trips_in_the_child(self, tmp_path, job):
        engine = IsolatedEngine(readable=(tmp_path,), writable=(tmp_path / "out",), memory_bytes=160 * MIB)
        turned = pipeline_of(Rotate(degrees=90), output=PngOutput(compression=1))
        large = job(turned, sample_images.photo(6500, 6500))
        before = psutil.Process().memory_info().rss
        with pytest.raises(ImageTooComplexError, match="more than the 160 MiB of memory"):
            engine.render(large, deadline_seconds=60)
        assert psutil.Process().memory_info().rss - before < 32 * MIB
        assert_works(engine, job)
        engine.close()

    def test_the_kernel_ends_a_child_that_computes_for_too_long(self):
        script = "from image_processor.engine import sandbox\nsandbox.limit_cpu(1)\nwhile True: pass"
        done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
        assert done.returncode == -signal.SIGXCPU

    @pytest.mark.parametrize("kind", [b"iCCP", b"zTXt"])
    def test_a_chunk_that_unpacks_to_far_too_much_does_no_harm(self, engine, job, kind):
        packer = zlib.compressobj(9)
        packed = b"".join(packer.compress(bytes(MIB)) for _ in range(400)) + packer.flush()
        data = kind + b"name\0\0" + packed
        chunk = (len(data) - 4).to_bytes(4) + data + zlib.crc32(data).to_bytes(4)
        whole = sample_images.png(64, 48)
        bomb = whole[:33] + chunk + whole[33:]
        started = time.monotonic()
        with contextlib.suppress(RejectedError):
            engine.render(job(original=bomb, kind="png"), deadline_seconds=DEADLINE)
        assert time.monotonic() - started < 5
        assert psutil.Process(engine.child_pid).memory_info().rss < 300 * MIB


class TestHostileFiles:
    @pytest.mark.parametrize(
        ("sample", "kind"),
        [
            (sample_images.photo, "jpeg"),
            (sample_images.progressive_jpeg, "jpeg"),
            (sample_images.png, "png"),
            (sample_images.webp, "webp"),
            (partial(sample_images.webp, lossless=True), "webp"),
            (sample_images.animated_webp, "webp"),
            (sample_images.tiff, "tiff"),
        ],
    )
    def test_what_is_cut_off_is_refused(self, engine, job, sample, kind):
        """But for GIF, of which libvips shows the frames that are there; intake counts the blocks."""
        whole = sample()
        for share in (0.2, 0.5, 0.8):
            with pytest.raises(RejectedError):
                engine.render(
                    job(original=whole[: int(len(whole) * share)], kind=kind), deadline_seconds=DEADLINE
                )

    @pytest.mark.parametrize(
        ("sample", "kind"),
        [
            (partial(sample_images.photo, 200, 150, with_metadata=True), "jpeg"),
            (partial(sample_images.cmyk_jpeg, 60, 40), "jpeg"),
            (partial(sample_images.png_with_alpha, 80, 60), "png"),
            (partial(sample_images.webp, 120, 90), "webp"),
            (partial(sample_images.animated_webp, 60, 40), "webp"),
            (partial(sample_images.animated_gif, 60, 40), "gif"),
            (partial(sample_images.tiff, 60, 40), "tiff"),
        ],
    )
    def test_damage_gives_a_picture_or_a_refusal(self, engine, job, sample, kind):
        whole = sample()
        chance = random.Random(len(whole))
        for _ in range(40):
            damaged = bytearray(whole)
            for _ in range(chance.randint(1, 12)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            try:
                engine.render(job(original=bytes(damaged), kind=kind), deadline_seconds=DEADLINE)
            except RejectedError:
                continue
        assert_works(engine, job)


class TestPrying:
    """What the child may not see or touch: with code of ours in it, as an attacker's would be."""

    @pytest.fixture
    def inside(self, tmp_path):
        readable, writable = tmp_path / "readable", tmp_path / "writable"
        readable.mkdir()
        writable.mkdir()
        (readable / "original").write_text("bytes")
        (tmp_path / "secret").write_text("password")

        def run(code):
            script = (
                "import os, socket, sys, pathlib\n"
                "from image_processor.engine import sandbox\n"
                f"policy = sandbox.Policy(parent_pid={os.getpid()}, memory_bytes=2**30,\n"
                f"    readable=({str(readable)!r},), writable=({str(writable)!r},))\n"
                "protections = sandbox.protect(policy)\n"
                f"root = pathlib.Path({str(tmp_path)!r})\n{code}\n"
            )
            done = subprocess.run(
                [sys.executable, "-I", "-c", script],
                check=False,
                capture_output=True,
                text=True,
                env=ENVIRONMENT,
            )
            return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

        if run("print(protections.files_restricted)") != "True":
            pytest.skip("this kernel has no Landlock")
        return run

    def test_reads_and_writes_where_it_may(self, inside):
        assert inside("print((root / 'readable/original').read_text())") == "bytes"
        assert inside("print((root / 'writable/new').write_text('four'))") == "4"
        assert inside("(root / 'writable/new').unlink(); print('removed')") == "removed"

    @pytest.mark.parametrize(
        "code",
        [
            "(root / 'secret').read_text()",
            "(root / 'writable/../secret').read_text()",
            "(root / 'readable/new').write_text('x')",
            "(root / 'readable/original').write_text('x')",
            "(root / 'new').write_text('x')",
            "(root / 'readable/original').unlink()",
            "list(root.iterdir())",
            "pathlib.Path('/etc/passwd').read_text()",
            "pathlib.Path('/tmp/x').write_text('x')",
            "(root / 'writable/link').symlink_to(root / 'secret')",
            "os.link(root / 'secret', root / 'writable/link')",
            "os.rename(root / 'secret', root / 'writable/moved')",
            "os.mkfifo(root / 'writable/pipe')",
            "os.execv('/bin/sh', ['sh'])",
            "pathlib.Path(f'/proc/{os.getppid()}/environ').read_bytes()",
            "socket.create_connection(('127.0.0.1', 9), timeout=5)",
            "socket.create_server(('127.0.0.1', 0))",
        ],
    )
    def test_is_kept_from(self, inside, code):
        assert inside(code).startswith(("PermissionError", "OSError: [Errno 18]")), code

    def test_cannot_signal_its_parent(self, inside):
        assert inside("os.kill(os.getppid(), 0)").startswith("PermissionError")

    def test_describes_itself(self, engine):
        protections = engine.protections()
        assert protections.memory_bytes == 3072 * MIB
        assert protections.open_files == 64
        assert protections.oom_score == 800
        assert protections.niceness == os.nice(0) + 5
        assert protections.no_core_dump
        assert protections.no_new_privileges

    def test_this_process_is_not_protected_and_says_so(self):
        protections = describe()
        assert not protections.files_restricted
        assert not protections.network_restricted
        assert not protections.signals_restricted

    def test_its_environment_holds_no_secret(self, engine, monkeypatch):
        monkeypatch.setenv("JWT_SECRET_KEY", "a-secret-for-tests")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        engine.protections()
        assert psutil.Process(engine.child_pid).environ() == dict(ENVIRONMENT)

    def test_an_original_outside_its_folders_cannot_be_opened(self, engine, job, tmp_path_factory):
        if not engine.protections().files_restricted:
            pytest.skip("this kernel has no Landlock")
        elsewhere = tmp_path_factory.mktemp("elsewhere") / "original"
        elsewhere.write_bytes(sample_images.photo())
        with pytest.raises(EngineError, match="cannot be opened"):
            engine.render(job().model_copy(update={"source": elsewhere}), deadline_seconds=DEADLINE)
        assert_works(engine, job)

    def test_an_output_directory_outside_its_folders_cannot_be_written(self, engine, job, tmp_path_factory):
        if not engine.protections().files_restricted:
            pytest.skip("this kernel has no Landlock")
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        with pytest.raises(EngineError, match="could not be written"):
            engine.render(job().model_copy(update={"output_directory": elsewhere}), deadline_seconds=DEADLINE)
        assert list(elsewhere.iterdir()) == []


READY = wire.frame(wire.Ready(protections=describe()))
FAILED = wire.frame(wire.Failed(code="corrupt_image", message="Cut off."))
PRELUDE = f"""
import json, os, struct, sys, time
def say(data, to=1):
    while data:
        data = data[os.write(to, data):]
def frame(body):
    return struct.pack(">I", len(body)) + body
def hear():
    (length,) = struct.unpack(">I", sys.stdin.buffer.read(4))
    return json.loads(sys.stdin.buffer.read(length))
READY, FAILED = {READY!r}, {FAILED!r}
"""
RENDERED = """
job = hear()["request"]
out = job["output_directory"]
def rendered(path, size):
    facts = dict(format="webp", width=64, height=48, size_bytes=size, sha256="0" * 64)
    variant = dict(name="only", path=path, **facts)
    body = dict(width=640, height=480, dominant_color="#000000", variants=[variant])
    return frame(json.dumps(dict(kind="rendered", rendering=body)).encode())
"""


class TestLying:
    @pytest.fixture
    def engine_on(self, tmp_path):
        """An engine whose child is a script."""
        started = []

        def start(script):
            command = (sys.executable, "-I", "-c", PRELUDE + script)
            engine = IsolatedEngine(readable=(tmp_path,), writable=(tmp_path / "out",), command=command)
            started.append(engine)
            return engine

        yield start
        for engine in started:
            engine.close()

    def refused(self, engine, job, error=EngineError, match="refused", seconds=3.0):
        started = time.monotonic()
        with pytest.raises(error, match=match):
            engine.render(job(), deadline_seconds=2)
        assert time.monotonic() - started < seconds
        assert engine.child_pid is None

    @pytest.mark.parametrize(
        "lie",
        [
            "say(READY); hear(); say(frame(b'garbage'))",
            "say(READY); hear(); say(frame(b''))",
            "say(READY); hear(); say(b'\\xff' * 4)",
            "say(READY); hear()\nwhile True: say(b'x' * 65536)",
            "say(READY); hear(); say(FAILED + FAILED)",
            "say(READY); hear(); say(READY)",
            "say(FAILED)",
            "say(frame(b'{}'))",
            "say(b'HTTP/1.1 200 OK')",
            "say(READY); hear(); say(frame(b'[' * 1000000))",
        ],
    )
    def test_garbage_is_refused(self, engine_on, job, lie):
        self.refused(engine_on(lie + "\ntime.sleep(60)"), job)

    @pytest.mark.parametrize(
        "lie",
        [
            "say(rendered('/etc/passwd', os.path.getsize('/etc/passwd')))",
            "os.symlink('/etc/passwd', out + '/only.webp'); say(rendered(out + '/only.webp', 5))",
            "open(out + '/only.webp', 'w').write('four'); say(rendered(out + '/only.webp', 5))",
            "say(rendered(out + '/only.webp', 4))",
            "os.mkdir(out + '/x'); open(out + '/x/a', 'w').write('four'); say(rendered(out + '/x/a', 4))",
        ],
    )
    def test_false_claims_are_refused(self, engine_on, job, lie):
        self.refused(engine_on(f"say(READY)\n{RENDERED}\n{lie}\ntime.sleep(60)"), job)

    def test_the_same_script_telling_the_truth_is_believed(self, engine_on, job):
        truth = "open(out + '/only.webp', 'w').write('four'); say(rendered(out + '/only.webp', 4))"
        engine = engine_on(f"say(READY)\n{RENDERED}\n{truth}\ntime.sleep(60)")
        assert engine.render(job(), deadline_seconds=10).variants[0].size_bytes == 4

    def test_an_answer_that_drips_is_cut_off_at_the_deadline(self, engine_on, job):
        drip = "say(READY); hear(); say(b'\\0\\0\\xff\\xff')\nwhile True: say(b'x'); time.sleep(0.01)"
        self.refused(engine_on(drip), job, EngineTimeoutError, "in time")

    def test_what_it_prints_to_standard_error_is_drained_and_bounded(self, engine_on, job):
        flood = "say(READY); hear(); say(b'noise' * 2_000_000, 2); say(FAILED)\ntime.sleep(60)"
        engine = engine_on(flood)
        with pytest.raises(CorruptImageError, match="Cut off"):
            engine.render(job(), deadline_seconds=10)
        assert 0 < len(engine._child.stderr) <= 1024

    def test_leaving_is_a_crash_with_the_code(self, engine_on, job):
        self.refused(engine_on("say(READY); hear(); sys.exit(3)"), job, EngineCrashedError, "exited with 3")

    def test_never_becoming_ready_is_a_crash(self, engine_on, job):
        self.refused(engine_on("sys.exit(1)"), job, EngineCrashedError, "exited with 1")

    def test_falling_silent_is_a_timeout(self, engine_on, job):
        self.refused(engine_on("time.sleep(60)"), job, EngineTimeoutError, "in time")

    def test_hanging_up_and_living_on_is_a_crash(self, engine_on, job):
        self.refused(
            engine_on("say(READY); hear(); os.close(1); time.sleep(60)"), job, EngineCrashedError, "died"
        )

    def test_what_it_forked_dies_with_it(self, engine_on, job, tmp_path):
        fork = (
            "say(READY); out = hear()['request']['output_directory']; pid = os.fork()\n"
            "if pid: open(out + '/pid', 'w').write(str(pid)); say(frame(b'nothing'))\n"
            "time.sleep(60)"
        )
        self.refused(engine_on(fork), job)
        assert_gone(int((tmp_path / "out/pid").read_text()))

    def test_words_that_nobody_asked_for_are_not_taken_for_the_next_answer(self, engine_on, job):
        engine = engine_on("say(READY); hear(); say(FAILED); time.sleep(0.1); say(FAILED); time.sleep(60)")
        with pytest.raises(CorruptImageError):
            engine.render(job(), deadline_seconds=10)
        pid = engine.child_pid
        wait_until(engine._child.has_changed)
        with pytest.raises(CorruptImageError):
            engine.render(job(), deadline_seconds=10)
        assert engine.child_pid != pid
