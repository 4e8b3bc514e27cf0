"""shadow verdicts: what a judge says of mirrored answers beside those that were shown, one by one and counted"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

COUNTS = {"judgeable": sa.Integer(), "judged": sa.Integer(), "judge_wins": sa.Double()}


def upgrade() -> None:
    op.create_table(
        "shadow_verdicts",
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("response_id", sa.String(length=200), nullable=False),
        sa.Column("rollout_id", sa.String(length=40), nullable=False),
        sa.Column("judge", sa.String(length=200), nullable=False),
        sa.Column("win", sa.Double(), nullable=True),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "response_id"),
    )
    with op.batch_alter_table("tallies", schema=None) as batch_op:
        for name, kind in COUNTS.items():
            batch_op.add_column(sa.Column(name, kind, nullable=False, server_default="0"))
    with op.batch_alter_table("tallies", schema=None) as batch_op:
        for name, kind in COUNTS.items():
            batch_op.alter_column(name, existing_type=kind, server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("tallies", schema=None) as batch_op:
        for name in COUNTS:
            batch_op.drop_column(name)
    op.drop_table("shadow_verdicts")
