"""Bringing the audit database to the schema that this version needs."""

from __future__ import annotations

import sys
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from app.own_process import run_module

HEAD = "0007"
"""The newest migration; a database that is there already costs no import of alembic."""


def migrate(engine: Engine, revision: str = HEAD) -> None:
    """Run the migrations up, or down, to `revision` (`base`: down to nothing)."""
    with engine.begin() as connection:
        if _revision(connection) == revision:
            return
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # one at a time, and all of it or nothing
            if _revision(connection) == revision:
                return
        from alembic.config import Config  # noqa: PLC0415
        from alembic.script import ScriptDirectory  # noqa: PLC0415

        from alembic import command  # noqa: PLC0415  (0.4 s that a migrated database need not pay)

        config = Config()
        config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
        config.attributes["connection"] = connection
        current = _revision(connection)
        newest_first = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
        if current is not None and current not in newest_first:
            raise RuntimeError(f"the audit database is of a newer Clawmend (schema {current}); this one knows {HEAD}")
        back = current is not None and revision in newest_first[newest_first.index(current) :]
        if revision == "base" or back:
            command.downgrade(config, revision)
        else:
            command.upgrade(config, revision)


def migrate_in_a_process(engine: Engine) -> None:
    """As `migrate`, for one who stays: what alembic takes (11 MB) goes with the process. Raises RuntimeError."""
    with engine.connect() as connection:
        if _revision(connection) == HEAD:
            return
    told = engine.url.render_as_string(hide_password=False)  # by a pipe: it may hold a password
    done = run_module(__name__, told.encode())
    if done.returncode:
        raise RuntimeError(
            done.stdout.decode(errors="replace").strip() or f"its migration ended with {done.returncode}"
        )


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _scripts() -> Path:
    """In an installed wheel the migrations lie in the package, in a checkout at its top."""
    package = Path(__file__).resolve().parent.parent
    packed = package / "_alembic"
    return packed if packed.is_dir() else package.parent / "alembic"


def _main() -> int:
    from app.audit.log import AuditLog, AuditUnavailable  # noqa: PLC0415  (which imports this module)

    try:
        AuditLog(sys.stdin.read()).migrate()
    except (AuditUnavailable, RuntimeError, OSError) as error:
        sys.stdout.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
