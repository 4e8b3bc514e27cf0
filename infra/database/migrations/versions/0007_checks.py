"""checks: planted questions whose better answer is known"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "checks",
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("check_id", sa.String(length=32), nullable=False),
        sa.Column("alias", sa.String(length=100), nullable=False),
        sa.Column("segment", sa.Text(), nullable=True),
        sa.Column("question", sa.JSON(), nullable=False),
        sa.Column("response_a", sa.String(length=200), nullable=False),
        sa.Column("response_b", sa.String(length=200), nullable=False),
        sa.Column("better", sa.String(length=1), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("planted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "check_id"),
    )


def downgrade() -> None:
    op.drop_table("checks")
