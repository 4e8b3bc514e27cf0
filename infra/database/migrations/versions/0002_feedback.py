"""feedback: answers, votes and their history, dead letters"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "choices",
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("response_id", sa.String(length=200), nullable=False),
        sa.Column("index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.String(length=200), nullable=False),
        sa.Column("arm", sa.String(length=40), nullable=False),
        sa.Column("arm_propensity", sa.Double(), nullable=False),
        sa.Column("finish_reason", sa.String(length=40), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "response_id", "index"),
    )
    op.create_table(
        "dead_letters",
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("topic", sa.String(length=100), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "topic", "partition", "offset"),
    )
    op.create_table(
        "inferences",
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("response_id", sa.String(length=200), nullable=False),
        sa.Column("event_id", sa.String(length=32), nullable=False),
        sa.Column("alias", sa.String(length=100), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("stored", sa.Boolean(), nullable=False),
        sa.Column("rateable", sa.Boolean(), nullable=False),
        sa.Column("base_revision", sa.String(length=64), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("parent_response_id", sa.String(length=200), nullable=True),
        sa.Column("regenerated_from", sa.String(length=200), nullable=True),
        sa.Column("rollout_id", sa.String(length=40), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rater", sa.String(length=64), nullable=True),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("segment", sa.Text(), nullable=True),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("consent_train", sa.Boolean(), nullable=False),
        sa.Column("consent_explicit", sa.Boolean(), nullable=False),
        sa.Column("retain_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("log_partition", sa.Integer(), nullable=False),
        sa.Column("log_offset", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "response_id"),
    )
    with op.batch_alter_table("inferences", schema=None) as batch_op:
        batch_op.create_index("inferences_rater", ["tenant", "rater"], unique=False)
        batch_op.create_index("inferences_session", ["tenant", "session_id"], unique=False)
        batch_op.create_index("inferences_time", ["tenant", "occurred_at"], unique=False)

    op.create_table(
        "vote_events",
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("event_id", sa.String(length=32), nullable=False),
        sa.Column("vote_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("retracted", sa.Boolean(), nullable=False),
        sa.Column("rater", sa.String(length=64), nullable=True),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("segment", sa.Text(), nullable=True),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("consent_train", sa.Boolean(), nullable=False),
        sa.Column("consent_explicit", sa.Boolean(), nullable=False),
        sa.Column("retain_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("log_partition", sa.Integer(), nullable=False),
        sa.Column("log_offset", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "event_id"),
    )
    with op.batch_alter_table("vote_events", schema=None) as batch_op:
        batch_op.create_index("vote_events_rater", ["tenant", "rater"], unique=False)
        batch_op.create_index("vote_events_time", ["tenant", "occurred_at"], unique=False)
        batch_op.create_index("vote_events_vote", ["tenant", "vote_id"], unique=False)

    op.create_table(
        "vote_targets",
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("vote_id", sa.String(length=64), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "vote_id", "target"),
    )
    with op.batch_alter_table("vote_targets", schema=None) as batch_op:
        batch_op.create_index("vote_targets_target", ["tenant", "target"], unique=False)

    op.create_table(
        "votes",
        sa.Column("tenant", sa.String(length=100), nullable=False),
        sa.Column("vote_id", sa.String(length=64), nullable=False),
        sa.Column("event_id", sa.String(length=32), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rater", sa.String(length=64), nullable=True),
        sa.Column("alias", sa.String(length=100), nullable=True),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("consent_train", sa.Boolean(), nullable=False),
        sa.Column("consent_explicit", sa.Boolean(), nullable=False),
        sa.Column("pairs", sa.Integer(), nullable=False),
        sa.Column("counted", sa.Integer(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "vote_id"),
    )
    with op.batch_alter_table("votes", schema=None) as batch_op:
        batch_op.create_index("votes_rater", ["tenant", "rater"], unique=False)
        batch_op.create_index("votes_status", ["status", "first_seen_at"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("votes", schema=None) as batch_op:
        batch_op.drop_index("votes_status")
        batch_op.drop_index("votes_rater")

    op.drop_table("votes")
    with op.batch_alter_table("vote_targets", schema=None) as batch_op:
        batch_op.drop_index("vote_targets_target")

    op.drop_table("vote_targets")
    with op.batch_alter_table("vote_events", schema=None) as batch_op:
        batch_op.drop_index("vote_events_vote")
        batch_op.drop_index("vote_events_time")
        batch_op.drop_index("vote_events_rater")

    op.drop_table("vote_events")
    with op.batch_alter_table("inferences", schema=None) as batch_op:
        batch_op.drop_index("inferences_time")
        batch_op.drop_index("inferences_session")
        batch_op.drop_index("inferences_rater")

    op.drop_table("inferences")
    op.drop_table("dead_letters")
    op.drop_table("choices")
