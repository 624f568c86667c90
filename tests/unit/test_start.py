"""What a process does not load, as it would pay for that at every start: in fresh interpreters."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from image_processor.cli.commands import MAX_COLORS
from image_processor.engine.base import MAX_PALETTE_COLORS
from image_processor.jobs.database import Database, newest_revision
from image_processor.jobs.migration import MIGRATIONS

WEB = {"fastapi", "starlette", "uvicorn"}
EXTRAS = {"redis", "celery", "boto3", "botocore", "pybreaker", "psycopg", "httpx"}
MIGRATING = {"alembic", "mako"}
DECODERS = {"pyvips", "PIL", "numpy"}
HEAVY = {"sqlalchemy", "pydantic", "pydantic_settings", "structlog", "jwt", "cryptography", "httpcore"}

WIRE = """
from image_processor.bootstrap import open_database
from image_processor.settings import load_settings
open_database(load_settings()).close()
"""
HELP = """
from image_processor.cli import app
app(["--help"], standalone_mode=False)
"""
WIRED_API = """
from image_processor.api.server import build_app, create_app, load_settings
app = build_app(load_settings(jwt_secret_key="a secret that is long enough for HS256"))
create_app(app)
app.close()
"""
WIRED_WORKER = """
from image_processor.settings import load_settings
from image_processor.worker.process import build_worker
build_worker(load_settings()).close()
"""

NOT_LOADED = {
    "the library": ("import image_processor", WEB | EXTRAS | MIGRATING | DECODERS | HEAVY),
    "help": (HELP, WEB | EXTRAS | MIGRATING | DECODERS | HEAVY),
    "the service's parent": (
        "import image_processor.cli.serve",
        WEB | EXTRAS | MIGRATING | DECODERS | {"httpcore"},
    ),
    "the worker": (WIRED_WORKER, WEB | EXTRAS | MIGRATING | DECODERS | {"typer", "jwt", "cryptography"}),
    "the API": (WIRED_API, EXTRAS | MIGRATING | DECODERS | {"typer"}),
    "the codec": (
        "import image_processor.engine.codec",
        WEB | EXTRAS | MIGRATING | {"sqlalchemy", "typer", "jwt"},
    ),
}


def loaded_by(code: str, folder: Path) -> set[str]:
    """The packages in an interpreter that has run this and nothing else, in this folder."""
    code += "\nimport sys\nprint(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"DATA_PATH": str(folder / "data")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stderr.split()}


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """A folder whose database is there already, as at every start but the first."""
    folder = tmp_path_factory.mktemp("migrated")
    database = Database.open(folder / "data" / "processor.db")
    database.migrate()
    database.close()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", NOT_LOADED)
def test_a_process_loads_only_what_it_uses(name, migrated):
    code, forbidden = NOT_LOADED[name]
    loaded = loaded_by(code, migrated)
    assert "image_processor" in loaded
    assert loaded & forbidden == set()


@pytest.mark.slow
def test_alembic_is_loaded_where_there_is_something_to_migrate(tmp_path):
    assert "alembic" in loaded_by(WIRE, tmp_path)
    assert "alembic" not in loaded_by(WIRE, tmp_path)


def test_the_newest_migration_is_the_one_that_alembic_knows():

    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [newest_revision()]


def test_the_command_line_offers_as_many_colors_as_an_engine_gives():
    assert MAX_COLORS == MAX_PALETTE_COLORS
