"""An image folder as a source: captions from ``photo.txt`` beside ``photo.jpg``, else from the file's name."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from model.data.records import Record, Skipped, Source, id_of_file, words_of_file
from model.errors import ArchiveError

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
MAX_SIDECAR_BYTES = 64 * 1024


def read_folder(folder: Path) -> Source:
    """The images of a folder and of the folders in it, in the order of their names; hidden ones are no part.

    Links to files are images like others (see ``importing`` on where they may lead), links to folders are skipped.

    Raises:
        ArchiveError: there is no image.
    """
    skipped: list[Skipped] = []
    for row in _rows(folder):
        if isinstance(row, Record):
            return Source(folder.resolve().name, folder, lambda: _rows(folder))
        skipped.append(row)
    found = "; ".join(f"{one.where}: {one.reason}" for one in skipped[:3]) or "no file at all"
    raise ArchiveError(f"{folder}: expected images to import, found none ({found})")


def _rows(folder: Path) -> Iterator[Record | Skipped]:
    others: Counter[str] = Counter()
    for path in _walk(folder):
        if isinstance(path, Skipped):
            yield path
            continue
        suffix = path.suffix.lower()
        name = path.relative_to(folder).as_posix()
        if suffix not in SUFFIXES:
            others[suffix or path.name] += suffix != ".txt"
            continue
        try:
            yield _record(path, name)
        except (ValueError, OSError) as error:
            yield Skipped(_printable(name), str(error))
    readable = " ".join(sorted(SUFFIXES))
    for suffix, count in sorted(others.items()):
        if count:
            reason = f"not of an image format that is read: {readable}"
            yield Skipped(f"{count} {suffix} file{'s' * (count > 1)}", reason)


def _walk(folder: Path) -> Iterator[Path | Skipped]:
    for directory, folders, files in os.walk(folder):
        visible = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        linked = [name for name in visible if Path(directory, name).is_symlink()]
        for name in linked:
            where = Path(directory, name).relative_to(folder).as_posix()
            yield Skipped(_printable(where), "a link to a folder; links to folders are not followed")
        folders[:] = [name for name in visible if name not in linked]
        yield from (Path(directory, name) for name in sorted(files) if not name.startswith("."))


def _record(path: Path, name: str) -> Record:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError("the file's name is not UTF-8; rename it") from error
    texts = _sidecar(path) or (words_of_file(path.stem),)
    return Record(where=name, id=id_of_file(name), image=name, texts=texts, metadata={"file": name})


def _sidecar(path: Path) -> tuple[str, ...]:
    """The lines of the caption file beside an image, ``photo.txt`` or ``photo.jpg.txt``, without empty ones.

    Raises:
        ValueError: it is not a small UTF-8 text.
    """
    for sidecar in (path.with_suffix(".txt"), path.with_name(f"{path.name}.txt")):
        if not sidecar.is_file() or sidecar.is_symlink():
            continue
        if sidecar.stat().st_size > MAX_SIDECAR_BYTES:
            raise ValueError(f"{sidecar.name}: expected a caption of at most {MAX_SIDECAR_BYTES:,} bytes")
        try:
            lines = sidecar.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{sidecar.name} is not UTF-8; save it as UTF-8") from error
        return tuple(line.strip() for line in lines if line.strip())
    return ()


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()
