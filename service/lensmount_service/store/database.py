"""The database of a service: an SQLite file or PostgreSQL. Writers take turns; each reader sees one snapshot.

Every module defines its tables on `metadata`, and a file in `migrations/versions` creates them. Names, versions,
datasets and jobs share one database, so that reading one table and changing another can be one transaction.
"""

from __future__ import annotations

import datetime
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lensmount_adapters.faults import fault
from lensmount_service.errors import ServiceError, StoreDamaged, Unavailable
from lensmount_service.store.faults import UNREADABLE, fault_of_database
from lensmount_service.store.migrate import migrate, newest_schema
from lensmount_service.store.reserve import Reserve

SCHEMA_VERSION = newest_schema()
BUSY_TIMEOUT_S = 5

metadata = sa.MetaData()
_schema = sa.Table("lensmount_schema", metadata, sa.Column("version", sa.Integer, primary_key=True))

_WRITERS_LOCK = 0x4C656E736D6F756E  # "Lensmoun": the advisory lock that writers take in PostgreSQL


class Database:
    """`database = Database(state / "registry.sqlite3")`, `with database.write() as connection: ...`.

    A path or `sqlite:///...` opens a file in WAL mode; `postgresql://...` uses psycopg 3. Every driver error becomes
    Unavailable (`store_unavailable`) or StorageFull.
    """

    def __init__(self, url: str | Path) -> None:
        """Does not connect yet. Raises Unavailable if the URL is invalid or its driver is not installed."""
        self._engine = _engine(_url(url))
        self.reserve = Reserve(_beside(self._engine.url))
        self.damage: str | None = None  # why nothing is written any more
        self.write_fault: str | None = None  # why the last write failed, if the disk was the reason
        self._watcher: Any = None  # the driver's own connection, used only by `stamp`
        self._watchers = 0  # the number of connections so far, because the stamps of two connections cannot be compared
        self._watching = threading.Lock()

    @property
    def is_postgresql(self) -> bool:
        return self._engine.dialect.name == "postgresql"

    def create(self) -> None:
        """Bring the tables to the newest schema. If they have it, this does not wait for writers.

        Raises Unavailable if a newer Lensmount created them.
        """
        with self.read() as connection:
            version = self._schema_version(connection)
        if version != SCHEMA_VERSION:
            self.migrate()
        self.reserve.fill()

    def migrate(self, target: int = SCHEMA_VERSION) -> int:
        """Move the tables to a schema, forward or back, in one transaction. Returns the schema before.

        Raises Unavailable if a newer Lensmount created them.
        """
        with self.write() as connection:
            before = self._schema_version(connection)
            if before > SCHEMA_VERSION:
                raise Unavailable(
                    f"found registry schema {before}, expected at most {SCHEMA_VERSION}. "
                    "Fix: install the Lensmount that made it, or restore a backup that is older",
                    code="store_unavailable",
                )
            if before != target:
                migrate(connection, target)
                self._set_schema_version(connection, target)
        return before

    def _set_schema_version(self, connection: sa.Connection, version: int) -> None:
        """A Lensmount from before Alembic reads the schema there, and refuses a newer one."""
        if sa.inspect(connection).has_table(_schema.name):
            connection.execute(_schema.delete())
            connection.execute(_schema.insert().values(version=version))
        if not self.is_postgresql:
            connection.exec_driver_sql(f"PRAGMA user_version = {version}")

    def _schema_version(self, connection: sa.Connection) -> int:
        """0 if there are no tables yet."""
        version = 0
        if sa.inspect(connection).has_table(_schema.name):
            version = connection.execute(sa.select(sa.func.max(_schema.c.version))).scalar_one_or_none() or 0
        if not self.is_postgresql:
            version = max(version, connection.exec_driver_sql("PRAGMA user_version").scalar_one())
        return int(version)

    def close(self) -> None:
        with self._watching:
            self._stop_watching()
        self._engine.dispose()

    @property
    def stamps_at_once(self) -> bool:
        """True if `stamp` never blocks, so that an event loop may call it."""
        return not self.is_postgresql

    def stamp(self) -> object | None:
        """A value that changes with every commit by any process; None if it cannot be read now.

        SQLite counts the commits of all other connections in the file's shared memory (2 us). PostgreSQL's snapshot
        names the visible transactions (one round trip). Both are exact: equal stamps mean equal tables.
        """
        with self._watching:
            try:
                if self._watcher is None:
                    self._watcher = self._watch()
                if self._watcher is None:
                    return None
                stamp = "SELECT pg_current_snapshot()::text" if self.is_postgresql else "PRAGMA data_version"
                return self._watchers, self._watcher.execute(stamp).fetchone()[0]
            except (sa.exc.SQLAlchemyError, self._engine.dialect.loaded_dbapi.Error):
                self._stop_watching()
                return None

    def _watch(self) -> Any:
        """A connection that never writes: SQLite does not count a connection's own commits."""
        if not self.is_postgresql and not self._engine.url.database:
            return None  # an in-memory database has only one connection
        pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        if self.is_postgresql:
            connection.autocommit = True
        else:
            connection.execute("PRAGMA busy_timeout = 0")
        self._watchers += 1
        return connection

    def _stop_watching(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction without other writers: what it reads stays true until commit. A failure changes nothing.

        A database that was found damaged takes no more writes.
        """
        self._require_undamaged()
        with self._noting_writes(), self._translated(), self._engine.connect() as connection:
            if self.is_postgresql:
                with connection.begin():
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITERS_LOCK)))
                    yield connection
                return
            fault("database.begin")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                fault("database.commit")
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")
            fault("database.committed")

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One snapshot for all reads inside. Does not wait for writers."""
        with self._translated(), self._engine.connect() as connection:
            if self.is_postgresql:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                with connection.begin():
                    yield connection
                return
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.exec_driver_sql("ROLLBACK")

    def check(self) -> None:
        """Check the pages of an SQLite file as they are on disk, not in memory. Raises Unavailable for damage."""
        self._require_undamaged()
        if self.file is None:
            return
        with self._translated():
            connection = sqlite3.connect(self.file, timeout=BUSY_TIMEOUT_S)
            try:
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            finally:
                connection.close()
            if found != "ok":
                raise sqlite3.DatabaseError(f"malformed: {found}")

    def read_each_table(self) -> None:
        """Read one row of each table. Raises Unavailable if there is one that cannot be read."""
        with self.read() as connection:
            for table in metadata.sorted_tables:
                connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).all()

    @property
    def file(self) -> Path | None:
        """The SQLite file; None for PostgreSQL and for a database in memory."""
        name = self._engine.url.database
        return None if self.is_postgresql or not name else Path(name)

    def copy_to(self, path: Path) -> None:
        """Copy an SQLite file as it is at one moment, while others write (https://sqlite.org/backup.html).

        The copy is one file without a log. Raises StoreDamaged if its pages do not fit together.
        """
        fault("database.copy")
        with self._translated():
            source, target = sqlite3.connect(str(self.file), timeout=BUSY_TIMEOUT_S), sqlite3.connect(path)
            try:
                source.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")
                (found,) = target.execute("PRAGMA integrity_check(1)").fetchone()
            finally:
                source.close()
                target.close()
            if found != "ok":
                raise sqlite3.DatabaseError(f"malformed: {found}")

    def _require_undamaged(self) -> None:
        if self.damage is not None:
            raise StoreDamaged(self.damage)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn every error of the driver, of SQLAlchemy and of a stored text into one of the service."""
        try:
            yield
        except (sa.exc.SQLAlchemyError, self._engine.dialect.loaded_dbapi.Error, *UNREADABLE) as error:
            fault = fault_of_database(error)
            if isinstance(fault, StoreDamaged):
                self.damage = str(fault)
            raise fault from error

    @contextmanager
    def _noting_writes(self) -> Iterator[None]:
        try:
            yield
        except ServiceError as error:
            if error.code in ("store_read_only", "storage_full"):
                self.write_fault = str(error)
            raise
        self.write_fault = None

    def now(self, connection: sa.Connection) -> float:
        """Seconds since the epoch, by PostgreSQL's clock (one for all machines) or, with SQLite, by this machine's."""
        if self.is_postgresql:
            return float(
                connection.execute(sa.select(sa.func.extract("epoch", sa.func.clock_timestamp()))).scalar_one()
            )
        return time.time()


def iso(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 with milliseconds, in UTC."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _url(url: str | Path) -> sa.URL:
    if isinstance(url, Path):
        return sa.URL.create("sqlite", database=str(url))
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise Unavailable(
            "found a database URL of another kind, expected postgresql://user@host/name or sqlite:///file",
            code="store_unavailable",
        )
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed


def _beside(url: sa.URL) -> Path | None:
    """Where the reserve of an SQLite file is."""
    return Path(f"{url.database}.reserve") if url.get_backend_name() == "sqlite" and url.database else None


def _engine(url: sa.URL) -> sa.Engine:
    try:
        if url.get_backend_name() == "sqlite":
            if url.database:
                Path(url.database).parent.mkdir(parents=True, exist_ok=True)
            engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None})
            sa.event.listen(engine, "connect", _configure_sqlite)
            return engine
        engine = sa.create_engine(
            url, pool_pre_ping=True, pool_size=8, max_overflow=24, pool_timeout=10, connect_args={"connect_timeout": 5}
        )
        sa.event.listen(engine, "connect", _configure_postgresql)
        return engine
    except ModuleNotFoundError as error:
        raise Unavailable(
            f'the database needs {error.name}. Fix: pip install "lensmount[postgres]"', code="store_unavailable"
        ) from error


def _configure_sqlite(connection: Any, _: Any) -> None:
    """SQLite does not wait for a lock while a new file becomes WAL. A connection that meets one tries again."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = FULL")  # acknowledged writes survive a power loss
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")


def _configure_postgresql(connection: Any, _: Any) -> None:
    """A writer that hangs inside its transaction must not block the others for ever."""
    connection.execute("SET idle_in_transaction_session_timeout = '10s'")
    connection.execute("SET lock_timeout = '15s'")
    connection.execute("SET statement_timeout = '30s'")
    connection.commit()
