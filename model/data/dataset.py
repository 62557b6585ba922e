"""``DataSet``: what a module of this package holds as ``DATA_SET`` where it can build one from its published source."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.progress import Progress

from model.items import ItemArchive


class Builder(Protocol):
    """Writes a data set from its published source."""

    def __call__(self, folder: Path, *, source: Path | None, images: Path | None, progress: Progress) -> Path:
        """Replace the archive in ``folder``, and return it; ``source`` and ``images`` are local copies, where given."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set that can be built by name, and how many items, of each split and label, it is expected to hold."""

    name: str
    build: Builder
    expected_counts: Callable[[ItemArchive], Mapping[str, int]]
