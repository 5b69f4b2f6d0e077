"""Which hand changed the row: `file`, or `plugin` inside the gateway."""

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("repair_attempts", sa.Column("hand", sa.String(8), nullable=False, server_default="file"))


def downgrade() -> None:
    with op.batch_alter_table("repair_attempts") as table:
        table.drop_column("hand")
