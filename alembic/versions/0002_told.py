"""What the gateway answered when it was told of a repair."""

import sqlalchemy as sa

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("repair_attempts", sa.Column("told", sa.JSON))


def downgrade() -> None:
    with op.batch_alter_table("repair_attempts") as table:
        table.drop_column("told")
