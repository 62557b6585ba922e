"""Where jobs keep their state: an SQLite file in the home, or Postgres by setting."""

from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from pydantic import SecretStr

from app.jobs import JobsUnreachable

FILE = "jobs.sqlite"
BUSY_S = 30  # longest wait for another process that writes to that file


class Settings(Protocol):
    """What is needed of ``app.settings.Settings``."""

    @property
    def jobs_dir(self) -> Path:
        """Where jobs keep their files."""

    @property
    def jobs_url(self) -> SecretStr | None:
        """Address of a Postgres database."""

    @property
    def jobs_url_file(self) -> Path | None:
        """File that holds that address."""


def database_url(settings: Settings) -> str:
    """Address of the database of jobs; the folder of an SQLite file is made.

    Raises:
        JobsUnreachable: the file with the address cannot be read, or holds none.
    """
    if settings.jobs_url_file is not None:
        return _checked(_read(settings.jobs_url_file), "CROSSBIT_JOBS_URL_FILE")
    if settings.jobs_url is not None:
        return _checked(settings.jobs_url.get_secret_value(), "CROSSBIT_JOBS_URL")
    directory = settings.jobs_dir.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{directory / FILE}"


def connect(url: str) -> sa.Engine:
    """An engine for our own tables in that database, beside those of the workflow engine."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return sa.create_engine(parsed, connect_args={"timeout": BUSY_S})
    return sa.create_engine(parsed.set(drivername="postgresql+psycopg"), pool_size=1, pool_pre_ping=True)


def check_reachable(url: str) -> None:
    """Connect once.

    Raises:
        JobsUnreachable: nothing answers, or not to us; the message leaves the password out.
    """
    engine = connect(url)
    try:
        engine.connect().close()
    except sa.exc.OperationalError as error:
        place = engine.url.set(drivername="postgresql").render_as_string(hide_password=True)
        raise JobsUnreachable(f"cannot reach the database of jobs at {place}: {error.orig}") from error
    finally:
        engine.dispose()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise JobsUnreachable(f"CROSSBIT_JOBS_URL_FILE: cannot read {path}: {error.strerror}") from error


def _checked(url: str, setting: str) -> str:
    if not url.startswith("postgresql://"):  # the message must not repeat it: it holds a password
        raise JobsUnreachable(f"{setting}: expected an address that starts with postgresql://, found another one")
    return url
