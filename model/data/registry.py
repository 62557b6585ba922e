"""The data sets that can be built, and the check of any archive."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rich.progress import Progress

from model.data import openclipart
from model.data.check import check_archive, check_counts
from model.errors import ArchiveError
from model.items import ItemArchive


class Builder(Protocol):
    """Writes a data set's archive from its published source."""

    def __call__(self, path: Path, *, package: Path | None, progress: Progress | None) -> None:
        """Replace ``path`` with the archive, from a local copy of the source where one is given."""


BUILDERS: Mapping[str, Builder] = {"openclipart": openclipart.build}
EXPECTED_COUNTS: Mapping[str, Mapping[str, int]] = {"openclipart": openclipart.EXPECTED_COUNTS}


def build(name: str, out_dir: Path, *, package: Path | None = None, progress: Progress | None = None) -> Path:
    """Build ``out_dir/<name>/archive.zip``, where ``find_archive`` looks, from the source or a local copy of it.

    Raises:
        ArchiveError: nothing builds this name, or its source is missing or not the expected one.
    """
    if name not in BUILDERS:
        raise ArchiveError(f"expected a data set of {', '.join(sorted(BUILDERS))} to build, found {name!r}")
    path = out_dir / name / "archive.zip"
    BUILDERS[name](path, package=package, progress=progress)
    return path


def check(archive: ItemArchive, *, progress: Progress | None = None) -> list[str]:
    """What is wrong with the archive, one sentence each; empty where nothing is."""
    findings = list(check_archive(archive, progress=progress))
    if archive.info.name in EXPECTED_COUNTS:
        findings += check_counts(archive, EXPECTED_COUNTS[archive.info.name])
    return findings
