"""When the breaker opened and who closed it; what webhooks were sent, wait, or could not be delivered."""

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "breaker_openings",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("waiting", sa.BigInteger, nullable=False),
        sa.Column("closed_at", sa.BigInteger),
        sa.Column("closed_by", sa.Text),
        sa.Column("close_reason", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_breaker_openings"),
    )
    op.create_index("ix_breaker_openings_closed_at", "breaker_openings", ["closed_at"])
    op.create_table(
        "webhook_messages",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("receiver", sa.String(64), nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("about", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("tries", sa.BigInteger, nullable=False),
        sa.Column("next_at", sa.BigInteger, nullable=False),
        sa.Column("why", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_messages"),
    )
    op.create_index("ix_webhook_messages_state_receiver", "webhook_messages", ["state", "receiver"])


def downgrade() -> None:
    op.drop_table("webhook_messages")
    op.drop_table("breaker_openings")
