"""What our service is measured against: endpoints that anybody would write with FastAPI in ten minutes."""

import argparse
import hashlib
import os
import socket
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, UploadFile

KEEP_ALIVE_SECONDS = 15
KNOWN = "5f0c3c3e-8f4e-4d8e-9d0a-2f9f8f3b7c11"
"""There is a row of this id."""
IMAGE = "0d9f2f0e-54a0-4d0b-8d55-0e1f2e3c4b5a"
STATUS: dict[str, Any] = {
    "job_id": KNOWN,
    "image_id": IMAGE,
    "status": "completed",
    "created_at": "2026-11-08T14:00:00.000Z",
    "completed_at": "2026-11-08T14:00:01.000Z",
    "error": None,
    "error_code": None,
    "attempts": 1,
    "progress": 100,
}
"""Of the size of ours."""
TABLE = "create table rows (id text primary key, name text, size integer, sha256 text) strict"


class Rows:
    """A table in SQLite, in WAL mode, a connection for each use; what is written is durable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(self._connection()) as connection:
            connection.execute("pragma journal_mode = wal")
            connection.execute(TABLE)

    def _connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        connection.execute("pragma synchronous = full")
        return connection

    def insert(self, row_id: str, name: str, size: int, sha256: str) -> None:
        """Durable when this returns."""
        with closing(self._connection()) as connection:
            connection.execute("insert into rows values (?, ?, ?, ?)", (row_id, name, size, sha256))

    def is_there(self, row_id: str) -> bool:
        """Whether there is a row of that id."""
        with closing(self._connection()) as connection:
            return connection.execute("select * from rows where id = ?", (row_id,)).fetchone() is not None


def accepted(row_id: str) -> dict[str, str]:
    """The answer to an upload, of the size of ours."""
    return {
        "job_id": row_id,
        "image_id": IMAGE,
        "status_url": f"/api/v1/images/jobs/{row_id}",
        "message": "Upload accepted. Processing initiated.",
    }


def create_bare(folder: Path) -> FastAPI:
    """The application; it keeps what it keeps in this folder."""
    api = FastAPI()
    rows = Rows(folder / "bare.db")
    rows.insert(KNOWN, "", 0, "")

    @api.get("/status/{job_id}")
    async def status(job_id: str) -> dict[str, Any]:
        return {**STATUS, "job_id": job_id}

    @api.get("/row/{job_id}")
    def row(job_id: str) -> dict[str, Any]:
        """The same of a row that is looked up."""
        if not rows.is_there(job_id):
            raise HTTPException(404)
        return {**STATUS, "job_id": job_id}

    @api.post("/upload", status_code=202)
    async def upload(file: UploadFile) -> dict[str, str]:
        await file.read()
        return accepted(str(uuid.uuid4()))

    @api.post("/kept", status_code=202)
    def kept(file: UploadFile) -> dict[str, str]:
        """The same, durable: a file with its hash and a row, both on disk when this answers."""
        content = file.file.read()
        name = uuid.uuid4().hex
        with (folder / name).open("xb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        row_id = str(uuid.uuid4())
        rows.insert(row_id, name, len(content), hashlib.sha256(content).hexdigest())
        return accepted(row_id)

    return api


def main() -> None:
    """Serve on the listening socket given by `--fd` until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m bench.bare", description=__doc__)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    asked = parser.parse_args()
    config = uvicorn.Config(
        create_bare(asked.folder),
        http="httptools",
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    with socket.socket(fileno=asked.fd) as listener:
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
