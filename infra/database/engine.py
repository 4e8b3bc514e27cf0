"""One engine per process, one transaction per request, task or batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import Session, sessionmaker

BUSY_TIMEOUT_S = 30
WRITER = 0x7468756D62  # the advisory lock of whoever writes the registry ("thumb")
IDLE_TIMEOUT_S = 10  # PostgreSQL ends a transaction whose process was stopped in the middle: it holds that lock
LOCK_TIMEOUT_S = 30


class Database:
    """Opens transactions. One writer at a time: SQLite knows no other way, and on PostgreSQL a lock sees to it.

    Its rules span rows (never two cycles of one alias, one current value per vote): taking turns keeps them true.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    def __reduce__(self) -> tuple[Callable[[str], "Database"], tuple[str]]:
        """In another process it is opened again: connections are not shared."""
        return open_database, (self.engine.url.render_as_string(hide_password=False),)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits at the end and rolls back on any error."""
        with self._sessions.begin() as session:
            if self.engine.dialect.name == "postgresql":
                session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITER})
            yield session

    @contextmanager
    def concurrent(self) -> Iterator[Session]:
        """A transaction that does not take turns: for statements that are right whatever others do at the time."""
        with self._sessions.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for reads only: it takes no write lock."""
        with self._sessions(bind=self.engine.execution_options(thumbwheel_readonly=True)) as session:
            yield session

    def close(self) -> None:
        self.engine.dispose()


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def open_database(url: str) -> Database:
    """Connects lazily; `url` is any SQLAlchemy URL of SQLite or PostgreSQL."""
    if not url.startswith("sqlite"):
        timeouts = {"idle_in_transaction_session_timeout": IDLE_TIMEOUT_S, "lock_timeout": LOCK_TIMEOUT_S}
        options = " ".join(f"-c {name}={seconds}s" for name, seconds in timeouts.items())
        return Database(create_engine(url, pool_pre_ping=True, connect_args={"options": options, "connect_timeout": 5}))
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return Database(engine)


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy, not the driver, says BEGIN
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Any) -> None:
    readonly = connection.get_execution_options().get("thumbwheel_readonly")
    connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")
