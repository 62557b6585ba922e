"""The image files of a source: decoded once, and made small for storing."""

import hashlib
import io
from dataclasses import dataclass

from PIL import Image

from model.data.duplicates import Signature, signature
from model.images import FORMATS, decode_image

MAX_STORED_BYTES = 2**20
MAX_STORED_PX = 2048  # of the longer side
SCALED_PX = 1024  # towers see a few hundred pixels of it


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image file, and the file to store for it."""

    stored: bytes
    suffix: str
    digest: str  # SHA-256 (hex) of the original file
    signature: Signature


def make_picture(data: bytes) -> Picture:
    """Decode an image file; one that is large is stored scaled down, as a WebP file.

    Raises:
        ImageError: it is no image in an accepted format, or has too many pixels.
    """
    image = decode_image(data)
    digest, seen = hashlib.sha256(data).hexdigest(), signature(image)
    if len(data) <= MAX_STORED_BYTES and max(image.size) <= MAX_STORED_PX:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            return Picture(data, f".{str(file.format).lower()}", digest, seen)
    image.thumbnail((SCALED_PX, SCALED_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=90, method=4)
    return Picture(buffer.getvalue(), ".webp", digest, seen)
