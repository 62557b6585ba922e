"""Image files by names that anybody may have written: looked up below one folder and nowhere else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from model.archive_format import MAX_IMAGE_BYTES
from model.errors import ArchiveError
from model.object_files import SCHEME, ObjectFolder


class ImageFolder(Protocol):
    """Where images lie that an archive refers to; as a string, its path or address."""

    def read(self, name: str) -> bytes:
        """The bytes of an image file. Raises: ArchiveError."""

    def check(self, name: str) -> None:
        """Look whether it is there. Raises: ArchiveError."""


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder of this machine, by its resolved path."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, name: str) -> bytes:
        """The bytes of an image file.

        Raises:
            ArchiveError: it is missing, outside the folder, too large, or cannot be read.
        """
        return read_image_file(find_inside(self.path, name))

    def check(self, name: str) -> None:
        """Look whether it is there.

        Raises:
            ArchiveError: it is missing or outside the folder.
        """
        find_inside(self.path, name)


def is_address(root: Path | str) -> bool:
    """Whether images lie in an object store, and not in a folder."""
    return str(root).startswith(SCHEME)


def image_folder(root: Path | str) -> ImageFolder:
    """The images below a folder, or below an address such as ``s3://BUCKET/PREFIX``; nothing is opened yet.

    Raises:
        ArchiveError: the address names no bucket.
    """
    return ObjectFolder(str(root)) if is_address(root) else LocalFolder(Path(root).resolve())


def find_inside(root: Path, name: str) -> Path:
    """The real file of an image name below ``root``, which is itself resolved; links may lead anywhere inside it.

    Raises:
        ArchiveError: it is outside the root, or no file.
    """
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise ArchiveError(f"{name!r:.80} leads out of the folder of the images; it was not read")
        if not path.is_file():
            raise ArchiveError(f"no file {name!r:.80} in the folder of the images, {root}")
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name too long, a zero byte
        raise ArchiveError(f"{name!r:.80} cannot be looked up: {error}") from error
    return path


def read_image_file(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        ArchiveError: it cannot be read, or is too large.
    """
    try:
        size = path.stat().st_size
        if size > MAX_IMAGE_BYTES:
            raise ArchiveError(f"expected a file of at most {MAX_IMAGE_BYTES:,} bytes, found {size:,}")
        return path.read_bytes()
    except OSError as error:
        raise ArchiveError(f"cannot read the file: {error.strerror}") from error
