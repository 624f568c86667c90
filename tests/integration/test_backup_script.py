"""`scripts/backup.sh` as cron runs it: a folder a night, the oldest removed, a word where it fails."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compose import ROOT
from image_processor.bootstrap import build_app
from image_processor.settings import load_settings
from image_processor.testing import sample_images
from postgres_server import binaries

SCRIPT = ROOT / "scripts" / "backup.sh"
PROGRAMS = Path(sys.executable).parent
OLD = [f"2026-01-0{day}T031500Z" for day in range(1, 5)]


@pytest.fixture
def site(tmp_path):
    """A service's data with one file in its storage, and four older backups."""
    app = build_app(load_settings(data_path=tmp_path / "data"))
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(sample_images.photo(64, 48))
    app.storage.put("tests/a.jpg", picture, content_type="image/jpeg")
    app.close()
    for name in OLD:
        _make_old(tmp_path / "backups" / name)
    return tmp_path


def _make_old(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")


def _run(site: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    own = {
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "HOME": str(site),
        "DATA_PATH": str(site / "data"),
        "BACKUPS_PATH": str(site / "backups"),
        "BACKUPS_KEPT": "3",
    }
    return subprocess.run(
        [SCRIPT, *arguments],
        cwd=site,
        env=own | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _names(site: Path) -> list[str]:
    return sorted(path.name for path in (site / "backups").iterdir() if not path.name.startswith("."))


@pytest.mark.slow
def test_a_backup_is_made_and_the_oldest_go(site):
    (site / "backups" / "notes").mkdir()
    (site / "backups" / "2025-01-01T031500Z").mkdir()
    done = _run(site, "--files")
    assert done.returncode == 0, done.stderr
    unfinished, *kept, newest, notes = _names(site)
    assert (unfinished, notes) == ("2025-01-01T031500Z", "notes"), (
        "what is no whole backup of ours is left alone"
    )
    assert kept == OLD[-2:]
    assert (site / "backups" / newest / "processor.db").is_file()
    assert (site / "backups" / newest).stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_where_there_is_no_database_nothing_is_removed(site):
    done = _run(site, DATA_PATH=str(site / "elsewhere"))
    assert done.returncode == 2
    assert "There is no database" in done.stderr
    assert _names(site) == OLD


@pytest.mark.slow
@pytest.mark.parametrize("is_dumped", [True, False])
def test_the_rows_of_postgresql_are_dumped_or_missed(site, postgres, postgres_url, is_dumped):
    build_app(load_settings(data_path=site / "data", database_url=postgres_url)).close()
    (site / ".env").write_text(f"DATABASE_URL={postgres_url}\n")
    path = {"PATH": f"{binaries()}:{PROGRAMS}:{os.environ['PATH']}"}
    done = _run(site, **path, **({"DATABASE_URL": postgres_url} if is_dumped else {}))
    newest = site / "backups" / _names(site)[-1]
    assert _tables(newest / "postgresql.dump") == ({"images", "processing_jobs"} if is_dumped else set())
    assert done.returncode == (0 if is_dumped else 1), done.stderr
    assert len(_names(site)) == (3 if is_dumped else 5)


def _tables(dump: Path) -> set[str]:
    """Those of two that are in a dump."""
    if not dump.exists():
        return set()
    listed = subprocess.run(
        [binaries() / "pg_restore", "--list", dump], capture_output=True, text=True, check=True
    )
    return {"images", "processing_jobs"} & set(listed.stdout.split())


def _write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_dump_that_fails_makes_no_backup(site):
    programs = site / "bin"
    programs.mkdir()
    _write_program(programs / "pg_dump", "exit 3")
    done = _run(
        site, PATH=f"{programs}:{os.environ['PATH']}", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none"
    )
    assert done.returncode == 2
    assert "could not be dumped" in done.stderr
    assert _names(site) == OLD


@pytest.mark.parametrize("kept", ["0", "-1", "all", "3; rm -rf /"])
def test_a_number_that_is_none_removes_nothing(site, kept):
    assert _run(site, BACKUPS_KEPT=kept).returncode == 2
    assert _names(site) == OLD


def test_two_backups_at_once_are_one(site):
    lock = site / "backups" / ".lock"
    with lock.open("w") as held:
        subprocess.run(["flock", "--nonblock", str(held.fileno())], pass_fds=(held.fileno(),), check=True)
        assert _run(site).returncode == 75
    assert _names(site) == OLD


@pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="there is no shellcheck: apt-get install shellcheck"
)
def test_the_script_is_clean():
    done = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
