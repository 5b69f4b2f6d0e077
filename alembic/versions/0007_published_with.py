"""Which attempts were published in one version of their store."""

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("repair_attempts", sa.Column("published_with", sa.String(36)))


def downgrade() -> None:
    with op.batch_alter_table("repair_attempts") as table:
        table.drop_column("published_with")
