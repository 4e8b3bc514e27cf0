"""cells: which bucket an event is in, indexes by cell and by position on the log, and what each vote event states"""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BUCKETS = 8
ROWS = 5000  # filled in at a time
TABLES = {"inferences": "response_id", "vote_events": "event_id"}  # and what follows the tenant in its primary key
NAMELESS = {"inferences": "response_id", "vote_events": "vote_id"}  # whose bucket it is where nobody is named


def upgrade() -> None:
    for table, key in TABLES.items():
        op.add_column(table, sa.Column("bucket", sa.SmallInteger(), nullable=True))
        _fill(table, key, NAMELESS[table])
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.alter_column("bucket", existing_type=sa.SmallInteger(), nullable=False)
            batch_op.drop_index(f"{table}_time")
            batch_op.create_index(f"{table}_cell", ["tenant", "bucket", "occurred_at"], unique=False)
            batch_op.create_index(f"{table}_position", ["log_partition", "log_offset"], unique=False)
            batch_op.create_index(f"{table}_age", ["occurred_at"], unique=False, postgresql_using="brin")

    op.add_column("vote_events", sa.Column("pairs", sa.Integer(), nullable=True))
    # What an earlier value stated is sealed; it counts again only if the later ones are erased.
    current = "SELECT v.pairs FROM votes v WHERE v.tenant = vote_events.tenant AND v.event_id = vote_events.event_id"
    op.execute(f"UPDATE vote_events SET pairs = coalesce(({current}), 0)")
    with op.batch_alter_table("vote_events", schema=None) as batch_op:
        batch_op.alter_column("pairs", existing_type=sa.Integer(), nullable=False)


def downgrade() -> None:
    with op.batch_alter_table("vote_events", schema=None) as batch_op:
        batch_op.drop_column("pairs")
    for table in TABLES:
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_index(f"{table}_age")
            batch_op.drop_index(f"{table}_position")
            batch_op.drop_index(f"{table}_cell")
            batch_op.create_index(f"{table}_time", ["tenant", "occurred_at"], unique=False)
            batch_op.drop_column("bucket")


def _fill(name: str, key: str, nameless: str) -> None:
    """In pieces: the table may be large."""
    columns = ("tenant", key, "rater", nameless, "bucket")
    table = sa.table(name, *(sa.column(column) for column in dict.fromkeys(columns)))
    known = sa.select(table.c.tenant, table.c[key], sa.func.coalesce(table.c.rater, table.c[nameless]))
    put = sa.update(table).where(table.c.tenant == sa.bindparam("t"), table.c[key] == sa.bindparam("k"))
    connection = op.get_bind()
    while rows := connection.execute(known.where(table.c.bucket.is_(None)).limit(ROWS)).all():
        filled = [{"t": tenant, "k": value, "b": _bucket(owner)} for tenant, value, owner in rows]
        connection.execute(put.values(bucket=sa.bindparam("b")), filled)


def _bucket(owner: str) -> int:
    return hashlib.sha256(owner.encode()).digest()[0] % BUCKETS
