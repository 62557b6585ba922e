"""Image files by names that anybody may have written: looked up below one folder and nowhere else."""

from pathlib import Path

from model.archive_format import MAX_IMAGE_BYTES
from model.errors import ArchiveError


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
