"""The image files of a source: looked up inside its root and nowhere else, decoded once, and made small for storing."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from model.errors import ArchiveError
from model.images import FORMATS, decode_image
from model.items import MAX_IMAGE_BYTES

MAX_STORED_BYTES = 2**20
MAX_STORED_PX = 2048  # of the longer side
SCALED_PX = 1024  # towers see a few hundred pixels of it


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image file, and the file to store for it."""

    stored: Path
    suffix: str
    digest: str  # SHA-256 (hex) of the original file


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
            raise ArchiveError(f"no file {name!r:.80} in the folder of the images")
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name too long, a zero byte
        raise ArchiveError(f"{name!r:.80} cannot be looked up: {error}") from error
    return path


def read_picture(path: Path, scaled: Path) -> Picture:
    """Decode an image file; one that is large is stored scaled down, as a WebP file at ``scaled``.

    Raises:
        ArchiveError: it cannot be read, or is too large.
        ImageError: it is no image in an accepted format, or has too many pixels.
    """
    try:
        size = path.stat().st_size
        if size > MAX_IMAGE_BYTES:
            raise ArchiveError(f"expected a file of at most {MAX_IMAGE_BYTES:,} bytes, found {size:,}")
        data = path.read_bytes()
    except OSError as error:
        raise ArchiveError(f"cannot read the file: {error.strerror}") from error
    image = decode_image(data)
    digest = hashlib.sha256(data).hexdigest()
    if len(data) <= MAX_STORED_BYTES and max(image.size) <= MAX_STORED_PX:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            return Picture(path, f".{str(file.format).lower()}", digest)
    image.thumbnail((SCALED_PX, SCALED_PX), Image.Resampling.LANCZOS)
    image.save(scaled, "WEBP", quality=90, method=4)
    return Picture(scaled, ".webp", digest)
