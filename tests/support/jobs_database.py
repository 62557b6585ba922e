"""A look into the database of jobs behind the engine's back; SQLite, or Postgres where the tests run on that."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from app.job_store import connect, database_url
from app.settings import Settings

POSTGRES = "CROSSBIT_TEST_POSTGRES"  # address of a server where the tests may create databases


def execute(settings: Settings, statement: str, **values: object) -> list[Any]:
    """Run a statement in which ``{dbos}`` stands before the engine's tables; returns the rows, if it has any."""
    engine = connect(database_url(settings))
    try:
        with engine.begin() as connection:
            schema = "dbos." if engine.dialect.name == "postgresql" else ""
            result = connection.execute(sa.text(statement.format(dbos=schema)), values)
            return list(result.all()) if result.returns_rows else []
    finally:
        engine.dispose()


@contextmanager
def fresh_database() -> Iterator[str | None]:
    """The address of an empty Postgres database, or none where the tests run on SQLite."""
    server = os.environ.get(POSTGRES)
    if server is None:
        yield None
        return
    name = f"crossbit_{uuid.uuid4().hex}"
    engine = connect(server).execution_options(isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
        with engine.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        engine.dispose()
