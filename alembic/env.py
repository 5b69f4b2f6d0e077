"""Runs the migrations on the connection that app.audit.migrate hands over, or on CLAWMEND_DATABASE_URL."""

from alembic import context
from app.audit import openings, webhooks  # noqa: F401  (they put their tables into METADATA)
from app.audit.models import METADATA

connection = context.config.attributes.get("connection")
if connection is None:
    from app.audit.log import make_engine
    from app.settings import load_settings

    with make_engine(load_settings().database_url).begin() as connection:
        context.configure(connection=connection, target_metadata=METADATA)
        context.run_migrations()
else:
    context.configure(connection=connection, target_metadata=METADATA)
    context.run_migrations()
