"""Signs of life of the workers, in the database of the jobs: who stops counting is dead.

Nobody compares clocks of two machines: each process watches the others' counts against its own clock.
"""

import secrets
import time
from collections.abc import Callable

import sqlalchemy as sa

from app.job_store import connect

TABLE = sa.Table(
    "crossbit_workers",
    sa.MetaData(),
    sa.Column("worker", sa.String(255), primary_key=True),
    sa.Column("version", sa.String(255), nullable=False),  # of its workflow
    sa.Column("beats", sa.BigInteger, nullable=False),
)


class Heartbeats:
    """The workers' table; every method may raise ``sqlalchemy.exc.SQLAlchemyError``."""

    def __init__(self, url: str, patience_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = connect(url)
        self.patience_s = patience_s
        self._clock = clock
        self._seen: dict[str, tuple[int, float]] = {}  # last count and when it was new
        self._beat_at = clock()
        self._create()

    def beat(self, worker: str, version: str) -> None:
        """Say that this worker is alive."""
        with self._engine.begin() as connection:
            row = TABLE.c.worker == worker
            counted = sa.update(TABLE).where(row).values(beats=TABLE.c.beats + 1, version=version)
            if connection.execute(counted).rowcount == 0:
                connection.execute(sa.insert(TABLE).values(worker=worker, version=version, beats=_first_count()))
        self._beat_at = self._clock()

    def beat_age_s(self) -> float:
        """Seconds since the last ``beat`` that reached the database."""
        return self._clock() - self._beat_at

    def alive(self) -> dict[str, str]:
        """Workers that have counted on within the patience, with their versions; the dead are forgotten."""
        now = self._clock()
        with self._engine.begin() as connection:
            rows = connection.execute(sa.select(TABLE.c.worker, TABLE.c.version, TABLE.c.beats)).all()
        alive = {}
        for worker, version, beats in rows:
            known = self._seen.get(worker)
            if known is None or known[0] != beats:
                self._seen[worker] = (beats, now)
            elif now - known[1] > self.patience_s:
                self._forget(worker, beats)
                continue
            alive[worker] = version
        return alive

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def _forget(self, worker: str, beats: int) -> None:
        """Take a worker off the table, unless it has counted on."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(TABLE).where(TABLE.c.worker == worker, TABLE.c.beats == beats))

    def _create(self) -> None:
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.schema.CreateTable(TABLE, if_not_exists=True))
        except sa.exc.DBAPIError:  # on Postgres another process may have made it in the same moment
            if not sa.inspect(self._engine).has_table(TABLE.name):
                raise


def _first_count() -> int:
    """Not the same for two lives of a worker."""
    return secrets.randbits(48)
