"""Finding the files of an unpacked official download, wherever below the given folder they were unpacked."""

import os
from collections.abc import Iterable
from pathlib import Path

from model.errors import ArchiveError


def find_files(folder: Path, wanted: Iterable[str], what: str) -> dict[str, Path]:
    """The path of each wanted name; a name may begin with the folder that it must be in, as in ``tags/tags1.txt``.

    Raises:
        ArchiveError: a file is missing, or lies in several places.
    """
    found: dict[str, list[Path]] = {name: [] for name in wanted}
    names: dict[str, list[str]] = {}
    for name in found:
        names.setdefault(name.rpartition("/")[2], []).append(name)
    for directory, folders, files in os.walk(folder, followlinks=False):
        folders.sort()
        for file in names.keys() & set(files):
            for name in names[file]:
                if "/" not in name or Path(directory).name == name.partition("/")[0]:
                    found[name].append(Path(directory, file))
    for name, paths in found.items():
        if len(paths) != 1:
            places = f"{len(paths)} of them: {', '.join(map(str, paths[:2]))}" if paths else "none"
            raise ArchiveError(f"{what}: expected one file {name} below {folder}, found {places}")
    return {name: paths[0] for name, paths in found.items()}
