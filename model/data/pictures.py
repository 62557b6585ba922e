"""The image files of a source: decoded once, and made small for storing."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from model.image_files import read_image_file
from model.images import FORMATS, decode_image

MAX_STORED_BYTES = 2**20
MAX_STORED_PX = 2048  # of the longer side
SCALED_PX = 1024  # towers see a few hundred pixels of it


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image file, and the file to store for it."""

    stored: Path
    suffix: str
    digest: str  # SHA-256 (hex) of the original file


def read_picture(path: Path, scaled: Path) -> Picture:
    """Decode an image file; one that is large is stored scaled down, as a WebP file at ``scaled``.

    Raises:
        ArchiveError: it cannot be read, or is too large.
        ImageError: it is no image in an accepted format, or has too many pixels.
    """
    data = read_image_file(path)
    image = decode_image(data)
    digest = hashlib.sha256(data).hexdigest()
    if len(data) <= MAX_STORED_BYTES and max(image.size) <= MAX_STORED_PX:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            return Picture(path, f".{str(file.format).lower()}", digest)
    image.thumbnail((SCALED_PX, SCALED_PX), Image.Resampling.LANCZOS)
    image.save(scaled, "WEBP", quality=90, method=4)
    return Picture(scaled, ".webp", digest)
