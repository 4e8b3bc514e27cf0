"""rollouts: steps, what was seen at each, and one row for each rater and arm"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

RUNNING = "rollout_id IS NOT NULL"
COUNTS = ("answers", "failed", "rateable", "tokens", "refusals", "votes", "ups", "choices")


def upgrade() -> None:
    with op.batch_alter_table("rollouts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("steps", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("step", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("step_began_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("look", sa.JSON(), nullable=True))
    with op.batch_alter_table("rollouts", schema=None) as batch_op:
        batch_op.alter_column("steps", existing_type=sa.JSON(), server_default=None)
        batch_op.alter_column("step", existing_type=sa.Integer(), server_default=None)
    op.create_table(
        "tallies",
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("rollout_id", sa.String(length=40), nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("arm", sa.String(length=20), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in COUNTS),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("wins", sa.Double(), nullable=False),
        sa.Column("voted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "rollout_id", "step", "arm", "unit"),
    )
    op.create_index("tallies_unit", "tallies", ["tenant", "unit"])
    op.add_column("inferences", sa.Column("rollout_step", sa.SmallInteger(), nullable=True))
    op.create_index(
        "inferences_rollout",
        "inferences",
        ["rollout_id", "received_at"],
        sqlite_where=sa.text(RUNNING),
        postgresql_where=sa.text(RUNNING),
    )


def downgrade() -> None:
    op.drop_index("inferences_rollout", "inferences")
    op.drop_column("inferences", "rollout_step")
    op.drop_table("tallies")
    with op.batch_alter_table("rollouts", schema=None) as batch_op:
        for name in ("look", "step_began_at", "step", "steps"):
            batch_op.drop_column(name)
