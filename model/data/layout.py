"""The files in which cross-modal hashing code passes benchmarks on: ``index``, ``caption`` and ``label``.

Beside them lies a folder of images. Index paths are somebody else's: with a drive, backslashes, or folders that are not
here. An image is found by its file name and as many of its folders as agree, and never outside the folder of images.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from model.data.columns import CLASSES_FILE
from model.data.folder import SUFFIXES
from model.data.matlab import read_captions, read_labels, read_lines, read_paths
from model.durable import replacing
from model.errors import ArchiveError

INDEX_FILES = ("index.mat", "index.npy")
CAPTION_FILES = ("caption.mat", "caption.txt", "caption.npy")
LABEL_FILES = ("label.mat", "label.npy")
NO_TEXT = "123456"  # stands for an empty text in the published files, so that every item has one


@dataclass(frozen=True, slots=True)
class Rows:
    """A benchmark's items, in the order of its files."""

    paths: Sequence[str]  # of the images, as written
    captions: Sequence[tuple[str, ...]]
    labels: NDArray[np.uint8]  # (N, C) in {0, 1}
    class_names: tuple[str, ...] | None  # in column order, where the files state it

    def digest(self) -> str:
        """SHA-256 (hex) over paths, captions and labels: the split depends on the order of the rows."""
        digest = hashlib.sha256()
        for path, captions, labels in zip(self.paths, self.captions, self.labels, strict=True):
            digest.update(repr((path, captions, labels.tobytes())).encode())
        return digest.hexdigest()


def find_layout(folder: Path) -> Path | None:
    """The folder itself where it holds an index file."""
    return folder if any((folder / name).is_file() for name in INDEX_FILES) else None


def read_layout(folder: Path, progress: Progress) -> Rows:
    """Read the three files, and the class names where ``classes.txt`` states them.

    Raises:
        ArchiveError: a file is missing or cannot be read, or their numbers of rows differ.
    """
    paths = read_paths(_first(folder, INDEX_FILES), progress=progress)
    captions = read_captions(_first(folder, CAPTION_FILES), len(paths), progress=progress)
    labels = read_labels(_first(folder, LABEL_FILES), len(paths), progress=progress)
    stated = folder / CLASSES_FILE
    names = tuple(line.strip() for line in read_lines(stated)) if stated.is_file() else None
    return Rows(paths, captions, labels, names)


def write_layout(folder: Path, rows: Rows, *, caption_lines: bool, progress: Progress) -> None:
    """Write the three files and the class names; each replaces its predecessor once it is complete.

    ``caption_lines`` writes one text a row to ``caption.txt``, otherwise the list of its texts to ``caption.mat``.
    """
    writers: dict[str, Callable[[Path], None]] = {
        "index.mat": lambda path: _save(path, "index", _cells(rows.paths)),
        "label.mat": lambda path: _save(path, "category", rows.labels),
        CLASSES_FILE: lambda path: _write_lines(path, rows.class_names or ()),
    }
    if caption_lines:
        writers["caption.txt"] = lambda path: _write_lines(path, [" ".join(texts) for texts in rows.captions])
    else:
        writers["caption.mat"] = lambda path: _save(path, "caption", _cells([_cells(row) for row in rows.captions]))
    for name, write in progress.track(writers.items(), description="writing index, captions and labels"):
        with replacing(folder / name) as temporary:
            write(temporary)


class ImageFolder:
    """The image files below one folder, listed once; links to folders are not followed."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ArchiveError(f"expected a folder of images, found none at {root}")
        self.root = root
        self._by_name: dict[str, list[tuple[str, ...]]] = {}
        for directory, folders, files in os.walk(root):
            folders.sort()
            parents = Path(directory).relative_to(root).parts
            for name in files:
                if Path(name).suffix.lower() in SUFFIXES:
                    self._by_name.setdefault(name, []).append((*parents, name))

    def find(self, written: str, where: str) -> str | None:
        """The image's name relative to the root; nothing where there is no such file.

        Raises:
            ArchiveError: the path climbs out of its folder, or several files fit equally well.
        """
        parts = tuple(part for part in written.replace("\\", "/").split("/") if part not in ("", "."))
        if ".." in parts or not parts:
            raise ArchiveError(f"{where}: {written!r:.80} leads out of the folder of the images; it was not read")
        candidates = self._by_name.get(parts[-1], [])
        agreeing = [_agreeing(candidate, parts) for candidate in candidates]
        best = [one for one, count in zip(candidates, agreeing, strict=True) if count == max(agreeing)]
        if len(best) > 1:
            names = " or ".join("/".join(one) for one in best[:2])
            raise ArchiveError(
                f"{where}: {written!r:.80} could be {names} below {self.root}; "
                "name the folder of this data set's images alone"
            )
        return "/".join(best[0]) if best else None


def find_images(folder: ImageFolder, rows: Rows) -> list[str]:
    """Each row's image, relative to the folder.

    Raises:
        ArchiveError: images are missing, or two rows have one image; the message names the first such row.
    """
    found = [folder.find(path, f"index, row {row}") for row, path in enumerate(rows.paths, start=1)]
    missing = [row for row, image in enumerate(found) if image is None]
    if missing:
        first = missing[0]
        raise ArchiveError(
            f"index, row {first + 1}: expected an image {rows.paths[first]!r:.80} below {folder.root}, found none "
            f"({len(missing):,} of {len(found):,} rows lack theirs); complete the images, or name their folder with "
            "--images (links to folders are not followed)"
        )
    seen: dict[str, int] = {}
    names = [image for image in found if image is not None]
    for row, image in enumerate(names, start=1):
        if seen.setdefault(image.rpartition("/")[2], row) != row:
            other = seen[image.rpartition("/")[2]]
            raise ArchiveError(f"index, rows {other} and {row}: expected different images, found {image!r:.80} in both")
    return names


def _agreeing(candidate: Sequence[str], written: Sequence[str]) -> int:
    """How many parts agree, counted from the file name upwards."""
    pairs = zip(reversed(candidate), reversed(written), strict=False)
    return next((count for count, (one, other) in enumerate(pairs) if one != other), min(len(candidate), len(written)))


def _first(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ArchiveError(f"{folder}: expected a file {' or '.join(names)}, found none")


def _cells(values: Sequence[object]) -> NDArray[np.object_]:
    """An N x 1 cell array."""
    cells = np.empty((len(values), 1), dtype=object)
    for row, value in enumerate(values):
        cells[row, 0] = value
    return cells


def _save(path: Path, key: str, value: NDArray[np.generic]) -> None:
    from scipy.io import savemat

    with path.open("wb") as file:
        savemat(file, {key: value}, do_compression=True)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{' '.join(line.split())}\n" for line in lines), encoding="utf-8")
