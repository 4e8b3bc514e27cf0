"""replicas: when each engine started, whether it was found rather than started here, and whether it is to be drained"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

COLUMNS = (("engine_started", sa.Double(), "0"), ("discovered", sa.Boolean(), "0"), ("drain", sa.Boolean(), "0"))


def upgrade() -> None:
    for name, kind, default in COLUMNS:
        given = sa.false() if isinstance(kind, sa.Boolean) else default
        op.add_column("replicas", sa.Column(name, kind, nullable=False, server_default=given))
    with op.batch_alter_table("replicas", schema=None) as batch_op:
        for name, kind, _ in COLUMNS:
            batch_op.alter_column(name, existing_type=kind, server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("replicas", schema=None) as batch_op:
        for name, _, _ in reversed(COLUMNS):
            batch_op.drop_column(name)
