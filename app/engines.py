"""Which engine searches an index: one in this process, or a Milvus server."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from app.failures import ExtraMissing
from app.settings import Milvus
from index.errors import EngineUnavailable
from index.generation import EngineServer
from index.generations import IndexDirectory
from index.snapshot import Snapshot

if TYPE_CHECKING:
    from index.milvus.server import MilvusServer


class Settings(Protocol):
    """What is needed of ``app.settings.Settings``."""

    @property
    def engine(self) -> str:
        """Engine of every index."""

    @property
    def engines(self) -> Mapping[str, str]:
        """Engines of single indexes, by name."""

    @property
    def milvus(self) -> Milvus:
        """The server behind the engine ``milvus``."""


class Engines:
    """Chooses engines by the settings; connects to Milvus when an index first asks for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def of(self, index: str) -> str | EngineServer:
        """The engine of an index.

        Raises:
            ExtraMissing: it is Milvus, and the extra that speaks to it is not installed.
            EngineUnavailable: the file with the token cannot be read.
        """
        return self.milvus if self._is_milvus(index) else self._name(index)

    def prepare(self, index_dir: Path, generation: int) -> None:
        """Have Milvus take over a generation that does not serve yet; an engine in this process needs nothing.

        Raises:
            EngineUnavailable: Milvus does not answer, or is not ready in time.
        """
        if self._is_milvus(index_dir.name):
            opened = Snapshot.open(index_dir, generation, engine=self.milvus, verify=False, edits=False)
            with opened as snapshot:
                snapshot.warm()

    def activate(self, snapshot: Snapshot, index_dir: Path) -> None:
        """Tell Milvus which generation serves, and which are gone from disk.

        Raises:
            EngineUnavailable: Milvus does not answer.
        """
        if self._is_milvus(index_dir.name):
            self.milvus.activate(snapshot.written, IndexDirectory(index_dir).generations())

    @cached_property
    def milvus(self) -> "MilvusServer":
        """The server of the settings."""
        try:
            from index.milvus.server import MilvusOptions, MilvusServer
        except ImportError as error:
            raise ExtraMissing(
                f"the engine 'milvus' needs packages that are not installed ({error}): pip install 'crossbit[milvus]'"
            ) from error
        wanted = self._settings.milvus
        return MilvusServer(
            MilvusOptions(
                url=wanted.url,
                token=_token(wanted),
                prefix=wanted.prefix,
                index=wanted.index,
                lists=wanted.lists,
                probes=wanted.probes,
                timeout_s=wanted.timeout_s,
                ready_s=wanted.ready_s,
            )
        )

    def _name(self, index: str) -> str:
        return self._settings.engines.get(index, self._settings.engine)

    def _is_milvus(self, index: str) -> bool:
        return self._name(index) == "milvus"


def _token(settings: Milvus) -> str:
    if settings.token_file is None:
        return "" if settings.token is None else settings.token.get_secret_value()
    try:
        return settings.token_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "not UTF-8")
        raise EngineUnavailable(f"CROSSBIT_MILVUS__TOKEN_FILE: cannot read {settings.token_file}: {reason}") from error
