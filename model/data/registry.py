"""The data sets that can be built, and the check of any archive."""

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from rich.progress import Progress

from model import data
from model.data.check import check_archive, check_counts
from model.data.dataset import DataSet
from model.data.report import Level, Report
from model.errors import ArchiveError
from model.items import ItemArchive


def data_sets() -> Mapping[str, DataSet]:
    """By name, every ``DATA_SET`` of the modules in this package: a new data set is one new file."""
    modules = (import_module(f"{data.__name__}.{module.name}") for module in pkgutil.iter_modules(data.__path__))
    found = (getattr(module, "DATA_SET", None) for module in modules)
    return {data_set.name: data_set for data_set in found if isinstance(data_set, DataSet)}


def build(
    name: str,
    out_dir: Path,
    *,
    source: Path | None = None,
    images: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Build the archive below ``out_dir/<name>``, where ``find_archive`` looks, from the source or a local copy of it.

    Raises:
        ArchiveError: nothing builds this name, or its source is missing or not the expected one.
    """
    known = data_sets()
    if name not in known:
        raise ArchiveError(f"expected a data set of {', '.join(sorted(known))} to build, found {name!r}")
    bar = progress or Progress(disable=True)
    return known[name].build(out_dir / name, source=source, images=images, progress=bar)


def check(archive: ItemArchive, *, progress: Progress | None = None) -> Report:
    """What is wrong with the archive, the counts of a known data set included."""
    report = check_archive(archive, progress=progress)
    known = data_sets().get(archive.info.name)
    if known is not None:
        report.expected = known.expected_counts(archive)
        for sentence in check_counts(archive, report.expected):
            report.add(Level.ERROR, "counts", sentence)
    return report
