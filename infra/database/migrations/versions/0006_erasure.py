"""erasure: tombstones, exports, blanked events, and the cells that a next dataset has to look at again"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

EVENTS = ("inferences", "vote_events")
RARE = {
    "retention": (["retain_until"], "retain_until IS NOT NULL AND erased_at IS NULL"),
    "erasure": (["tenant", "erasure_id"], "erasure_id IS NOT NULL"),
}


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("erasure_id", sa.String(length=32), nullable=False),
        sa.Column("rater", sa.String(length=64), nullable=False),
        sa.Column("up_to", sa.DateTime(timezone=True), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "erasure_id"),
    )
    op.create_index("erasures_rater", "erasures", ["tenant", "rater"], unique=False)
    op.create_index("ix_erasures_state", "erasures", ["state"], unique=False)
    op.create_table(
        "exports",
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("export_id", sa.String(length=32), nullable=False),
        sa.Column("rater", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "export_id"),
    )
    op.create_index("exports_rater", "exports", ["tenant", "rater"], unique=False)
    op.create_index("ix_exports_state", "exports", ["state"], unique=False)
    op.create_table(
        "stale_cells",
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("bucket", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kind", "day", "bucket"),
    )
    op.add_column("adapters", sa.Column("erasure", sa.JSON(), nullable=True))
    for table in EVENTS:
        op.add_column(table, sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
        op.add_column(table, sa.Column("erasure_id", sa.String(length=32), nullable=True))
        for name, (columns, condition) in RARE.items():
            where = sa.text(condition)
            op.create_index(f"{table}_{name}", table, columns, unique=False, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for table in EVENTS:
        for name in RARE:
            op.drop_index(f"{table}_{name}", table)
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_column("erasure_id")
            batch_op.drop_column("erased_at")
    with op.batch_alter_table("adapters", schema=None) as batch_op:
        batch_op.drop_column("erasure")
    for table in ("stale_cells", "exports", "erasures"):
        op.drop_table(table)
