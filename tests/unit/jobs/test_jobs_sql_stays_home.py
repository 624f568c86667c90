import re
from pathlib import Path

import image_processor

PACKAGE = Path(image_processor.__file__).parent
TABLES = "processing_jobs|images|image_upload_events|upload_rate_limits"
WRITES = re.compile(
    rf"(update|insert\s+into|delete\s+from|replace\s+into)\s+[\"'`]?({TABLES})\b[\"'`]?\s+(set|values|where|\()"
    rf"|(from|join)\s+[\"'`]?({TABLES})\b[\"'`]?\s+(where|join|order|limit|group|on)\b",
    re.IGNORECASE,
)
SETS_STATUS = re.compile(r"update\s+processing_jobs\s+set\s+([^;]*?,\s*)?status\s*=", re.IGNORECASE)


def sources():
    return {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}


def test_only_the_jobs_room_writes_sql():
    strangers = [n for n, text in sources().items() if WRITES.search(text) and not n.startswith("jobs/")]
    assert strangers == []


def test_only_the_transitions_change_a_status():
    changing = [name for name, text in sources().items() if SETS_STATUS.search(text)]
    assert changing == ["jobs/transitions.py"]


def test_no_module_outside_the_jobs_room_imports_sqlalchemy_or_a_driver():
    imports = re.compile(
        r"^\s*(from|import)\s+(sqlalchemy|alembic|pysqlite3|sqlite3|psycopg)\b", re.MULTILINE
    )
    strangers = [n for n, text in sources().items() if imports.search(text) and not n.startswith("jobs/")]
    assert strangers == []
