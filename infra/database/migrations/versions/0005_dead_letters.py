"""dead letters: what became of each, and where its bytes are"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

GONE = -1  # an offset that no record has: the place of an older letter was not written down


def upgrade() -> None:
    with op.batch_alter_table("dead_letters", schema=None) as batch_op:
        batch_op.add_column(sa.Column("state", sa.String(length=20), nullable=False, server_default="open"))
        batch_op.add_column(sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("letter_partition", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("letter_offset", sa.BigInteger(), nullable=False, server_default=str(GONE)))
        batch_op.create_index("ix_dead_letters_state", ["state"], unique=False)
    with op.batch_alter_table("dead_letters", schema=None) as batch_op:
        for name in ("state", "letter_partition", "letter_offset"):
            batch_op.alter_column(name, server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("dead_letters", schema=None) as batch_op:
        batch_op.drop_index("ix_dead_letters_state")
        for name in ("state", "closed_at", "letter_partition", "letter_offset"):
            batch_op.drop_column(name)
