"""The commands as a user types them: real processes, what they print, their exit codes, what they leave."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import httpx
import jwt
import psutil
import pytest
from PIL import Image
from pysqlite3 import dbapi2 as sqlite3

from command_nursery import command_nursery
from image_processor.testing import sample_images
from running_service import Service, upload, wait_for_result

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

COMMAND = [sys.executable, "-m", "image_processor"]
SECRET = "a secret of our own, long enough to sign with"
PATIENCE_SECONDS = 40
STOP_SECONDS = 25
"""Longer than any image of these tests takes, shorter than the grace after which something is killed."""
MINE = """
[presets.mine]
accepts = ["image/png"]
key_template = "mine/{image_id}_{variant}.{ext}"

[[presets.mine.variants]]
name = "turned"
operations = [{ op = "rotate", degrees = 90 }, { op = "resize", width = 20 }]
output = { format = "jpeg", quality = 70 }
"""
MINE_TOO = """
[[presets.mine.variants]]
name = "plain"
output = { format = "jpeg" }
"""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    with command_nursery(tmp_path_factory.mktemp("nursery")) as nursery:
        yield nursery


@pytest.fixture
def run(tmp_path, nursery):
    """Runs a command to its end in the test's folder, with an environment that knows nothing of ours."""

    def run(*arguments, **environment):
        return nursery.run([*map(str, arguments)], tmp_path, scrubbed(tmp_path) | environment)

    return run


@pytest.fixture
def run_anew(tmp_path):
    """The same with an interpreter of its own, as a user starts it: one of each command at least."""

    def run(*arguments, **environment):
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=tmp_path,
            env=scrubbed(tmp_path) | environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    return run


def scrubbed(folder):
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"HOME": str(folder)}


def assert_refused(done, *words):
    """One sentence on standard error, nothing on standard output, exit code 2."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("image-processor: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


def wait_until(is_so, seconds=PATIENCE_SECONDS):
    """Poll what only another process can tell."""
    ends_at = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends_at
        threading.Event().wait(0.02)


def is_alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class TestHelp:
    @pytest.mark.parametrize(
        ("command", "words"),
        [
            ((), ("serve", "worker", "token", "process", "doctor")),
            (("serve",), ("--dev", "--host", "--port", "--workers")),
            (("worker",), ("--workers", "SIGTERM")),
            (("token",), ("--sub", "--valid-hours", "--scope")),
            (("process",), ("OUTPUT/NAME_VARIANT.EXT", "--output", "--preset", "--workers")),
            (("doctor",), ("exit code",)),
        ],
    )
    def test_says_what_there_is(self, run, command, words):
        done = run(*command, "--help", COLUMNS="200")
        assert (done.returncode, done.stderr) == (0, "")
        for word in words:
            assert word in done.stdout

    def test_an_unknown_option_is_exit_code_2(self, run_anew):
        done = run_anew("serve", "--prot", "1")
        assert done.returncode == 2
        assert "No such option" in done.stderr
        assert "Traceback" not in done.stderr


class TestToken:
    def test_prints_the_token_alone(self, run_anew):
        done = run_anew("token", "--sub", "me", JWT_SECRET_KEY=SECRET)
        assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
        claims = jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"])
        assert claims["sub"] == "me"
        assert claims["exp"] - claims["iat"] == 24 * 3600

    def test_for_as_long_and_with_the_algorithm_that_is_asked_for(self, run):
        secret = 2 * SECRET
        done = run(
            "token", "--sub", "me", "--valid-hours", "0.5", JWT_SECRET_KEY=secret, JWT_ALGORITHM="HS512"
        )
        claims = jwt.decode(done.stdout.strip(), secret, algorithms=["HS512"])
        assert claims["exp"] - claims["iat"] == 1800

    def test_without_a_secret_it_says_what_to_do(self, run, tmp_path):
        assert_refused(run("token", "--sub", "me"), "JWT_SECRET_KEY", "--dev")
        assert list(tmp_path.iterdir()) == []

    def test_reads_the_secret_from_the_env_file(self, run, tmp_path):
        (tmp_path / ".env").write_text(f'JWT_SECRET_KEY="{SECRET}"\n')
        token = run("token", "--sub", "me").stdout.strip()
        assert jwt.decode(token, SECRET, algorithms=["HS256"])["sub"] == "me"


class TestServeRefuses:
    @pytest.mark.parametrize("secret", ["", "changeme", "CHANGE_THIS_IN_PRODUCTION", "secret"])
    def test_no_secret_or_one_that_everybody_knows(self, run, secret):
        assert_refused(run("serve", "--port", "0", JWT_SECRET_KEY=secret), "JWT_SECRET_KEY", "--dev")

    @pytest.mark.parametrize(("algorithm", "size"), [("HS256", 31), ("HS512", 63)])
    def test_a_secret_that_can_be_found_by_trying(self, run, algorithm, size):
        done = run("serve", "--port", "0", JWT_SECRET_KEY=size * "x", JWT_ALGORITHM=algorithm)
        assert_refused(done, f"less than {size + 1} bytes", "openssl rand -hex 32", "--dev")

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
    def test_development_mode_for_strangers(self, run, host):
        assert_refused(run("serve", "--dev", "--host", host, "--port", "0"), "127.0.0.1", host)

    def test_no_authentication_for_strangers(self, run_anew):
        done = run_anew(
            "serve", "--host", "0.0.0.0", "--port", "0", JWT_SECRET_KEY=SECRET, AUTH_REQUIRED="false"
        )
        assert_refused(done, "AUTH_REQUIRED", "loopback")

    def test_a_port_in_use(self, run):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert_refused(run("serve", "--dev", "--port", port), f"127.0.0.1:{port}", "in use")

    @pytest.mark.parametrize(
        ("content", "word"),
        [
            ("[presets.mine", "cannot be read"),
            ("title = 'none'", "[presets.NAME]"),
            ("[presets.mine]\nvariants = []", "'mine'"),
            (MINE.replace("turned", "../up"), "'mine'"),
            (MINE.replace("{ext}", "{shoe_size}"), "shoe_size"),
            (MINE.replace("_{variant}", "") + MINE_TOO, "the same key"),
        ],
    )
    def test_a_presets_file_that_is_not_valid(self, run, tmp_path, content, word):
        (tmp_path / "presets.toml").write_text(content)
        assert_refused(run("serve", "--dev", "--port", "0", PRESETS_FILE="presets.toml"), word)

    def test_a_presets_file_that_is_not_there(self, run):
        done = run("serve", "--dev", "--port", "0", PRESETS_FILE="presets.toml")
        assert_refused(done, "presets.toml", "No such file")

    @pytest.mark.parametrize("setting", ["DATA_PATH", "STORAGE_PATH", "STAGING_PATH", "DATABASE_PATH"])
    def test_a_folder_that_cannot_be_made(self, run, tmp_path, setting):
        (tmp_path / "a file").touch()
        done = run("serve", "--dev", "--port", "0", **{setting: str(tmp_path / "a file" / "below")})
        assert_refused(done, str(tmp_path / "a file"))

    @pytest.mark.parametrize(
        ("setting", "value"),
        [("PORT", "99999"), ("WORKERS", "none"), ("IMAGE_SIZES", '{"large":'), ("JWT_ALGORITHM", "none")],
    )
    def test_a_setting_out_of_its_range(self, run, setting, value):
        assert_refused(run("serve", "--dev", **{setting: value}), setting)

    def test_and_leaves_no_process(self, run_anew, tmp_path):
        run_anew("serve")
        mine = [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(tmp_path)]
        assert mine == []


def freeze(process: psutil.Process, service: Service) -> None:
    """Stop a process where it is, but not inside a transaction: SQLite's lock would be frozen with it."""
    while True:
        process.suspend()
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED)
        database = sqlite3.connect(
            service.folder / "data" / "processor.db", timeout=0.1, isolation_level=None
        )
        with closing(database):
            try:
                database.execute("begin immediate")
            except sqlite3.OperationalError:
                process.resume()
            else:
                return


class TestServe:
    def test_development_mode_uses_the_secret_that_is_set(self, start_service):
        service = start_service(environment={"JWT_SECRET_KEY": SECRET})
        assert jwt.decode(service.token, SECRET, algorithms=["HS256"])["sub"] == "development"
        own = {"Authorization": f"Bearer {jwt.encode({'sub': 'ada'}, SECRET, algorithm='HS256')}"}
        assert httpx.get(f"{service.url}/jobs", headers=own).status_code == 200
        with service.client() as development:
            for path in ("stats", "failed"):
                assert development.get(f"/api/v1/health/{path}").status_code == 200
        assert not (service.folder / "data" / "development-secret").exists()

    def test_development_mode_keeps_a_secret_of_its_own(self, start_service, run, tmp_path):
        service = start_service()
        secret = tmp_path / "data" / "development-secret"
        assert secret.stat().st_mode & 0o777 == 0o600
        for scopes, status in (((), 403), (("--scope", "read", "--scope", "admin"), 200)):
            token = run("token", "--sub", "ada", *scopes).stdout.strip()
            headers = {"Authorization": f"Bearer {token}"}
            answer = httpx.get(f"{service.url}/api/v1/health/stats", headers=headers)
            assert answer.status_code == status

    def test_without_authentication_a_request_acts_as_development(self, start_service):
        service = start_service(environment={"AUTH_REQUIRED": "false"})
        picture = sample_images.photo(64, 48)
        with httpx.Client(base_url=service.url, timeout=30) as anybody:
            job_id = upload(anybody, picture).raise_for_status().json()["job_id"]
            wait_for_result(anybody, job_id).raise_for_status()
            with service.client() as development:
                assert wait_for_result(development, job_id).status_code == 200
            wrong = {"Authorization": "Bearer nonsense"}
            assert anybody.get("/api/v1/health/stats", headers=wrong).status_code == 401
        assert service.rows("select distinct user_id from images") == [("development",)]

    def test_outside_development_mode_it_prints_its_address_and_no_token(self, run, tmp_path):
        environment = {"JWT_SECRET_KEY": SECRET, "WORKERS": "1"}
        process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0"],
            cwd=tmp_path,
            env=scrubbed(tmp_path) | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with process.stdout:
            url = process.stdout.readline().split()[3]
            headers = {
                "Authorization": f"Bearer {run('token', '--sub', 'ada', **environment).stdout.strip()}"
            }
            with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
                assert client.get("/jobs").status_code == 401
                assert client.get("/jobs", headers=headers).status_code == 200
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0
            assert process.stdout.read() == ""

    def test_a_worker_beside_it_takes_part(self, start_service, tmp_path):
        service = start_service(arguments=("--dev", "--port", "0", "--workers", "1"))
        (own,) = service.processes("worker")
        freeze(own, service)
        beside = subprocess.Popen(
            [*COMMAND, "worker", "--workers", "1"],
            cwd=tmp_path,
            env=scrubbed(tmp_path) | {"LOG_FORMAT": "json"},
            stderr=subprocess.PIPE,
            text=True,
        )
        with service.client() as client, beside.stderr:
            job_id = upload(client, sample_images.photo(64, 48)).raise_for_status().json()["job_id"]
            wait_for_result(client, job_id).raise_for_status()
            own.resume()
            beside.terminate()
            assert beside.wait(PATIENCE_SECONDS) == 0
            events = [json.loads(line) for line in beside.stderr]
        assert [event["job_id"] for event in events if event["event"] == "job.completed"] == [job_id]


def busy(service: Service, picture: bytes, waiting: int = 4) -> list[psutil.Process]:
    """All processes of a service while it is at work, with more jobs waiting."""
    with service.client() as client:
        while not at_work(service) or dict(states(service)).get("pending", 0) < waiting:
            upload(client, picture).raise_for_status()
    return [psutil.Process(service.process.pid), *service.children()]


def at_work(service: Service) -> bool:
    return bool(service.rows("select 1 from processing_jobs where status = 'processing'"))


def states(service: Service) -> list[tuple[str, int]]:
    return service.rows("select status, count(*) from processing_jobs group by 1")


class TestServeStops:
    def test_sigterm_finishes_what_runs_and_leaves_no_process(self, start_service, heavy_photo):
        service = start_service()
        processes = busy(service, heavy_photo)
        running = service.rows("select job_id from processing_jobs where status = 'processing'")
        service.process.terminate()
        assert service.process.wait(STOP_SECONDS) == 0
        assert not [process for process in processes if is_alive(process)]
        states = dict(service.rows("select job_id, status from processing_jobs"))
        assert {states[job_id] for (job_id,) in running} == {"completed"}
        assert set(states.values()) <= {"completed", "pending"}
        assert service.rows("select sum(crash_count) from processing_jobs") == [(0,)]

    def test_a_second_sigterm_hands_the_jobs_back_with_their_attempts(self, start_service, heavy_photo):
        service = start_service()
        processes = busy(service, heavy_photo)
        service.process.terminate()
        service.wait_for(lambda: "worker.stopping" in "".join(service.log), "the worker to stop claiming")
        service.process.terminate()
        assert service.process.wait(STOP_SECONDS) == 0
        assert not [process for process in processes if is_alive(process)]
        left = service.rows(
            "select distinct status, attempt_count, crash_count from processing_jobs"
            " where status <> 'completed'"
        )
        assert left == [("pending", 0, 0)]

    def test_ctrl_c_in_a_terminal_is_one_sigterm(self, start_service, heavy_photo):
        """The terminal sends SIGINT to every process of its foreground group."""
        service = start_service()
        processes = busy(service, heavy_photo)
        groups = {os.getpgid(process.pid) for process in processes}
        assert len(groups) >= 3, "the members are not in the terminal's group"
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(STOP_SECONDS) == 0
        assert not [process for process in processes if is_alive(process)]
        assert "job.released" not in "".join(service.log)

    def test_kill_9_of_the_parent_leaves_no_process_and_no_listener(self, start_service, heavy_photo):
        service = start_service()
        processes = busy(service, heavy_photo)
        service.process.kill()
        wait_until(lambda: not any(map(is_alive, processes)))
        host, _, port = service.url.removeprefix("http://").partition(":")
        with closing(socket.create_server((host, int(port)))):
            pass  # nobody holds it
        assert not at_work(service), "the worker was asked, and had time to finish"

    def test_the_next_start_goes_on_where_the_rows_say(self, start_service, heavy_photo):
        first = start_service()
        busy(first, heavy_photo)
        first.process.terminate()
        assert first.process.wait(STOP_SECONDS) == 0
        assert first.rows("select 1 from processing_jobs where status = 'pending'")
        second = start_service()
        second.wait_for(lambda: set(dict(states(second))) == {"completed"}, "all jobs to complete")


class TestDoctor:
    def test_a_sound_installation_is_exit_code_0(self, run_anew):
        done = run_anew("doctor", JWT_SECRET_KEY=SECRET, COLUMNS="300")
        assert (done.returncode, done.stderr) == (0, "")
        for name in ("python", "secret", "sqlite", "database", "storage", "codec memory bytes"):
            assert f" {name} " in done.stdout
        assert "problem" not in done.stdout

    def test_a_warning_is_no_failure(self, run):
        done = run("doctor", AUTH_REQUIRED="false", COLUMNS="300")
        assert done.returncode == 0
        assert done.stdout.count("warning") >= 2
        assert "AUTH_REQUIRED=false" in done.stdout

    @pytest.mark.parametrize("damage", [b"this is no database", None])
    def test_a_damaged_database_is_exit_code_1(self, run, tmp_path, damage):
        run("doctor")
        database = tmp_path / "data" / "processor.db"
        content = bytearray(database.read_bytes())
        content[8192:] = os.urandom(len(content) - 8192)
        database.write_bytes(damage or content)
        done = run("doctor", COLUMNS="300")
        assert (done.returncode, done.stderr) == (1, "")
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(" database")]
        assert "problem" in line

    def test_a_storage_that_cannot_be_written_is_exit_code_1(self, run, tmp_path):
        (tmp_path / "[a] file").touch()
        done = run("doctor", STORAGE_PATH="[a] file/below", COLUMNS="300")
        assert (done.returncode, done.stderr) == (1, "")
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(" storage")]
        assert "problem" in line

    def test_settings_that_are_not_valid_are_exit_code_2(self, run):
        assert_refused(run("doctor", PORT="none"), "PORT")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "beach.jpg").write_bytes(sample_images.photo(320, 240))
    (folder / "logo.png").write_bytes(sample_images.png(200, 150))
    (folder / ".hidden.jpg").write_bytes(b"passed over")
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


WEB = ("large", "medium", "original", "thumbnail")


class TestProcess:
    def test_makes_the_variants_of_files_and_folders(self, run, pictures, tmp_path):
        single = tmp_path / "single.jpg"
        single.write_bytes(sample_images.photo(1600, 1200, orientation=6))
        done = run("process", pictures, single, "--output", "out/deep")
        assert (done.returncode, done.stdout) == (0, "")
        expected = [f"{name}_{size}.webp" for name in ("beach", "logo", "single") for size in WEB]
        assert names(tmp_path / "out" / "deep") == sorted(expected)
        with Image.open(tmp_path / "out" / "deep" / "single_large.webp") as image:
            assert (image.format, image.size) == ("WEBP", (1200, 900))
        assert "single.jpg: 1600x1200" in done.stderr

    def test_leaves_the_data_folder_of_the_service_alone(self, run, pictures, tmp_path):
        run("process", pictures, "--output", "out")
        assert names(tmp_path) == ["out", "pictures"]

    def test_equal_names_get_a_number_that_nobody_has(self, run, tmp_path):
        for name in ("one/a.jpg", "two/a.jpg", "two/a-2.jpg", "two/a.jpeg"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(sample_images.photo(64, 48))
        done = run("process", "one", "two", "--output", "out")
        assert done.returncode == 0
        stems = sorted({name.rpartition("_")[0] for name in names(tmp_path / "out")})
        assert stems == ["a", "a-2", "a-3", "a-4"]

    def test_odd_names_are_names_and_no_markup(self, run, tmp_path):
        (tmp_path / "in").mkdir()
        for name in ("photo [final].jpg", "photo [red].jpg", "-dash.jpg", "ü ñ.jpg"):
            (tmp_path / "in" / name).write_bytes(sample_images.photo(64, 48))
        done = run("process", "in", "--output", "out")
        assert done.returncode == 0, done.stderr
        assert "photo [final].jpg" in done.stderr
        assert (tmp_path / "out" / "photo [final]_thumbnail.webp").is_file()

    def test_a_link_keeps_its_own_name(self, run, pictures, tmp_path):
        (tmp_path / "link.jpg").symlink_to(pictures / "beach.jpg")
        done = run("process", "link.jpg", "--output", "out")
        assert done.returncode == 0, done.stderr
        assert names(tmp_path / "out") == [f"link_{size}.webp" for size in WEB]

    def test_bad_files_are_named_and_the_others_done(self, run_anew, pictures, tmp_path):
        whole = sample_images.photo(320, 240)
        (pictures / "broken [x].jpg").write_bytes(whole[: len(whole) // 2])
        (pictures / "notes.txt").write_text("Dear diary, today I was no picture.")
        (pictures / "empty.jpg").touch()
        done = run_anew("process", pictures, "--output", "out", "--workers", "2")
        assert done.returncode == 1
        for name in ("broken [x].jpg", "notes.txt", "empty.jpg"):
            assert f"{name}: " in done.stderr
        assert "Traceback" not in done.stderr
        expected = [f"{name}_{size}.webp" for name in ("beach", "logo") for size in WEB]
        assert names(tmp_path / "out") == sorted(expected)

    def test_the_preset_thumbnails(self, run, pictures, tmp_path):
        done = run("process", pictures / "beach.jpg", "--output", "out", "--preset", "thumbnails")
        assert done.returncode == 0, done.stderr
        sizes = {}
        for path in (tmp_path / "out").iterdir():
            with Image.open(path) as image:
                sizes[path.name.removeprefix("beach_")] = (image.format, image.size)
        assert sizes == {
            "original.jpg": ("JPEG", (320, 240)),
            "small.jpg": ("JPEG", (150, 150)),
            "small-webp.webp": ("WEBP", (150, 150)),
            "medium.jpg": ("JPEG", (400, 400)),
            "medium-webp.webp": ("WEBP", (400, 400)),
            "large.jpg": ("JPEG", (800, 800)),
            "large-webp.webp": ("WEBP", (800, 800)),
        }

    def test_the_preset_refuses_what_the_service_would(self, run, tmp_path):
        (tmp_path / "tiny.jpg").write_bytes(sample_images.photo(99, 300))
        done = run("process", "tiny.jpg", "--output", "out", "--preset", "thumbnails")
        assert done.returncode == 1
        assert "at least 100" in done.stderr
        assert names(tmp_path / "out") == []

    def test_the_preset_avatar(self, run, pictures, tmp_path):
        done = run("process", pictures / "logo.png", "--output", "out", "--preset", "avatar")
        assert done.returncode == 0, done.stderr
        assert names(tmp_path / "out") == ["logo_original.jpg", "logo_profile.jpg", "logo_thumbnail.jpg"]
        with Image.open(tmp_path / "out" / "logo_thumbnail.jpg") as image:
            assert (image.format, image.size) == ("JPEG", (128, 128))

    def test_a_preset_of_ones_own(self, run, pictures, tmp_path):
        (tmp_path / "presets.toml").write_text(MINE)
        done = run(
            "process",
            pictures / "logo.png",
            "--output",
            "out",
            "--preset",
            "mine",
            PRESETS_FILE="presets.toml",
        )
        assert done.returncode == 0, done.stderr
        with Image.open(tmp_path / "out" / "logo_turned.jpg") as image:
            assert (image.format, image.size) == ("JPEG", (20, 27))

    def test_refuses_an_unknown_preset_and_names_those_there_are(self, run, pictures, tmp_path):
        done = run("process", pictures, "--output", "out", "--preset", "wed")
        assert_refused(done, "'wed'", "avatar, thumbnails, web")
        assert not (tmp_path / "out").exists()

    def test_refuses_what_is_not_there(self, run, tmp_path):
        assert_refused(run("process", "nowhere", "--output", "out"), "nowhere")
        (tmp_path / "none").mkdir()
        assert_refused(run("process", "none", "--output", "out"), "no picture")
        assert not (tmp_path / "out").exists()

    def test_refuses_an_output_that_is_a_file(self, run, pictures, tmp_path):
        (tmp_path / "out").touch()
        assert_refused(run("process", pictures, "--output", "out"), "out")

    def test_a_variant_whose_place_is_taken_by_a_folder_is_an_error_of_that_file(
        self, run, pictures, tmp_path
    ):
        (tmp_path / "out" / "beach_medium.webp" / "full").mkdir(parents=True)
        done = run("process", pictures, "--output", "out")
        assert done.returncode == 1
        assert "beach.jpg: The variants cannot be written" in done.stderr
        assert "Traceback" not in done.stderr
        assert {f"logo_{size}.webp" for size in WEB} <= set(names(tmp_path / "out"))
        assert not [name for name in names(tmp_path / "out") if name.startswith(".")]

    def test_writes_no_metadata(self, run, tmp_path):
        (tmp_path / "gps.jpg").write_bytes(sample_images.photo(320, 240, with_metadata=True))
        run("process", "gps.jpg", "--output", "out")
        for path in (tmp_path / "out").iterdir():
            assert sample_images.MARKER not in path.read_bytes()
            with Image.open(io.BytesIO(path.read_bytes())) as image:
                assert not image.getexif()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_stopped_in_mid_work_it_leaves_nothing_of_its_own(self, tmp_path, heavy_photo, number):
        (tmp_path / "in").mkdir()
        for count in range(6):
            (tmp_path / "in" / f"{count}.jpg").write_bytes(heavy_photo)
        out = tmp_path / "out"
        process = subprocess.Popen(
            [*COMMAND, "process", "in", "--output", "out", "--workers", "1"],
            cwd=tmp_path,
            env=scrubbed(tmp_path),
            stderr=subprocess.PIPE,
        )
        with process.stderr:
            wait_until(lambda: list(out.glob(".making-*/*/*")))
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(number)
            assert process.wait(STOP_SECONDS) not in (0, -number)
            assert b"Traceback" not in process.stderr.read()
        assert not [name for name in names(out) if name.startswith(".")]
        assert len(names(out)) < 6 * len(WEB)
        assert not [child for child in children if is_alive(child)]
