"""Databases: SQLite in a file and, if its binaries are installed, a real PostgreSQL that belongs to this test run."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lensmount_service.store.database import Database

if TYPE_CHECKING:
    from tests.service.known_machine import KnownMachine


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """`postgresql()` gives the URL of a new, empty database on a server that runs until the tests end."""
    pytest.importorskip("psycopg", reason='needs psycopg: pip install "lensmount[postgres]"')
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(program) for program in [shutil.which("initdb")] if program
    ]
    if not binaries:
        pytest.skip("needs PostgreSQL's initdb and postgres: apt-get install postgresql")
    binary = binaries[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="lensmount-postgresql-"))
    folder.chmod(0o755)
    as_user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}  # initdb refuses root
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL, **as_user}
    initdb = [str(binary / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", "app", "-E", "UTF8", "-N"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **options)
    arguments = ["-D", str(folder / "data"), "-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1"]
    run = [sys.executable, "-c", _DIE_WITH_PARENT, str(binary / "postgres"), *arguments, "-c", "fsync=off"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(run, stdout=log, stderr=log, cwd=folder, stdin=subprocess.DEVNULL)
    url = f"postgresql://app@127.0.0.1:{port}/"
    try:
        _wait_for_postgresql(f"{url}postgres", folder / "log")
        yield lambda: _fresh_database(url)
    finally:
        server.send_signal(3)  # SIGQUIT: PostgreSQL's immediate shutdown
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


_DIE_WITH_PARENT = """
import ctypes, os, pwd, signal, sys
if os.geteuid() == 0:
    user = pwd.getpwnam("postgres")
    os.setgroups([]), os.setgid(user.pw_gid), os.setuid(user.pw_uid)
ctypes.CDLL(None).prctl(1, int(signal.SIGQUIT))
os.execv(sys.argv[1], sys.argv[1:])
"""


def _wait_for_postgresql(url: str, log: Path) -> None:
    import psycopg

    for _ in range(200):
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL does not start:\n{log.read_text()[-2000:]}")


def _fresh_database(url: str) -> str:
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(f"{url}postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{url}{name}"


@pytest.fixture(scope="session")
def postgresql_with_tables(postgresql: Callable[[], str]) -> str:
    """The URL of a database with all tables, which one test after another uses: a new one is 8 MB in 300 files."""
    url = postgresql()
    database = Database(url)
    database.create()
    database.close()
    return url


def _empty_tables(url: str) -> None:
    """Delete the rows of all tables but those that tell the schema. Numbers start at 1 again."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        listed = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND NOT tablename = ANY(%s)"
        names = [name for (name,) in connection.execute(listed, [["lensmount_schema", "alembic_version"]])]
        connection.execute(f"TRUNCATE {', '.join(names)} RESTART IDENTITY")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """The URL or path of a database without tables, once per kind."""
    if database_kind == "postgresql":
        return str(request.getfixturevalue("postgresql")())
    return tmp_path / "registry.sqlite3"


@pytest.fixture
def database_url(
    database_kind: str, request: pytest.FixtureRequest, tmp_path: Path, machine: KnownMachine
) -> Iterator[str | Path]:
    """The URL or path of a database with all tables and no rows, once per kind."""
    if database_kind == "postgresql":
        yield (url := str(request.getfixturevalue("postgresql_with_tables")))
        _empty_tables(url)
    else:
        yield machine.create_tables(tmp_path)


@pytest.fixture
def reopen(database_url: str | Path) -> Iterator[Callable[[], Database]]:
    """`reopen()` opens the same database with another engine, as another process would."""
    opened: list[Database] = []

    def open_again() -> Database:
        opened.append(Database(database_url))
        return opened[-1]

    yield open_again
    for database in opened:
        database.close()


@pytest.fixture
def database(reopen: Callable[[], Database]) -> Database:
    return reopen()
