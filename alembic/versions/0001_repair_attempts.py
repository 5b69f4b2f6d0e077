"""The audit table of repair attempts."""

import sqlalchemy as sa

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "repair_attempts",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("decided_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("state_dir", sa.Text, nullable=False),
        sa.Column("store_path", sa.Text, nullable=False),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("session_key", sa.Text, nullable=False),
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("trigger", sa.String(16), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("forced", sa.Boolean, nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("verdict_reason", sa.Text, nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("before", sa.JSON, nullable=False),
        sa.Column("after", sa.JSON, nullable=False),
        sa.Column("edit", sa.JSON, nullable=False),
        sa.Column("base_sha256", sa.String(64)),
        sa.Column("new_sha256", sa.String(64)),
        sa.Column("mode", sa.String(16)),
        sa.Column("outcome", sa.String(16)),
        sa.Column("outcome_reason", sa.Text),
        sa.Column("crossings", sa.BigInteger, nullable=False),
        sa.Column("looks", sa.JSON, nullable=False),
        sa.Column("undo_of", sa.String(36)),
        sa.Column("retry_of", sa.String(36)),
        sa.PrimaryKeyConstraint("id", name="pk_repair_attempts"),
    )
    op.create_index("ix_repair_attempts_store_path_session_key", "repair_attempts", ["store_path", "session_key"])
    op.create_index("ix_repair_attempts_outcome_finished_at", "repair_attempts", ["outcome", "finished_at"])


def downgrade() -> None:
    op.drop_table("repair_attempts")
