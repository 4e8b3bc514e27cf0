"""A batch's rows, put beside the tables they belong to: COPY on PostgreSQL, one prepared insert elsewhere.

Staging tables are temporary, one set per connection, made like the tables whose names they carry; what they hold is
gone with the transaction or the next batch.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    TypeDecorator,
    insert,
    text,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from feedback.tables import ChoiceRow, InferenceRow, VoteEventRow, VoteTargetRow
from infra.database.tables import Base

PREFIX = "incoming_"
STAGED = (InferenceRow, ChoiceRow, VoteEventRow, VoteTargetRow)
BINARY = (
    (SmallInteger, "int2"), (BigInteger, "int8"), (Integer, "int4"), (Boolean, "bool"), (Float, "float8"),
    (DateTime, "timestamptz"), (LargeBinary, "bytea"), (String, "text"),
)  # the first that fits: SQLAlchemy's small and big integers are integers too  # fmt: skip
COLUMNS: Mapping[str, tuple[str, ...]] = {
    row.__tablename__: tuple(column.name for column in row.__table__.columns) for row in STAGED
}


def stage(session: Session, rows: Mapping[str, Sequence[tuple[Any, ...]]]) -> None:
    """`rows` by table, each with a value for every one of its COLUMNS. Empties what an earlier batch left."""
    connection = session.connection()
    on_server = connection.dialect.name == "postgresql"
    for name in COLUMNS:
        _make_empty(connection, name, on_server=on_server)
        if some := rows.get(name):
            (_copy if on_server else _insert)(connection, name, some)


def _make_empty(connection: Connection, name: str, *, on_server: bool) -> None:
    if on_server:
        connection.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS {PREFIX}{name} (LIKE {name}) ON COMMIT DELETE ROWS"))
    else:
        connection.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS {PREFIX}{name} AS SELECT * FROM {name} WHERE false"))
        connection.execute(text(f"DELETE FROM {PREFIX}{name}"))


def _copy(connection: Connection, name: str, rows: Iterable[tuple[Any, ...]]) -> None:
    driver: Any = connection.connection.driver_connection
    columns = ", ".join(f'"{column}"' for column in COLUMNS[name])
    statement = f"COPY {PREFIX}{name} ({columns}) FROM STDIN (FORMAT BINARY)"
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(column_types(name, COLUMNS[name]))
            for row in rows:
                copy.write_row(row)
    except connection.dialect.loaded_dbapi.Error as error:  # as SQLAlchemy would, had it sent the statement
        raise OperationalError(statement, None, error) from error


def _insert(connection: Connection, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
    names = COLUMNS[name]
    connection.execute(insert(_STAGING[name]), [dict(zip(names, row, strict=True)) for row in rows])


def _staging_table(name: str) -> Table:
    columns = [Column(column.name, column.type) for column in Base.metadata.tables[name].columns]
    return Table(f"{PREFIX}{name}", MetaData(), *columns)


@cache
def column_types(table: str, names: tuple[str, ...]) -> list[str]:
    """As PostgreSQL calls them."""
    return [_type_of(Base.metadata.tables[table].columns[name]) for name in names]


def _type_of(column: Column[Any]) -> str:
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    return next(name for python, name in BINARY if isinstance(kind, python))


_STAGING = {name: _staging_table(name) for name in COLUMNS}
