"""Fixed augmented views of an image, the same on every machine: view 0 is the image itself.

View n > 0 is a crop of 7/8 of each side at a random place (224 of 256, as PromptHash trains) and, for every other draw,
its mirror image. Content hash and view number seed the draw, so a view never depends on the order of the data.
"""

import hashlib

import numpy as np
from PIL import Image, ImageOps

VERSION = 1  # raise it with every change of a view
KEPT = 7 / 8  # of each side


def view_of(image: Image.Image, key: str, view: int) -> Image.Image:
    """View number ``view`` of the image with this content hash."""
    if view == 0:
        return image
    seed = hashlib.sha256(f"{key} view {view}".encode()).digest()
    draw = np.random.Generator(np.random.PCG64(int.from_bytes(seed[:16])))
    size = [max(1, round(side * KEPT)) for side in image.size]
    left, top = (int(draw.integers(0, side - kept + 1)) for side, kept in zip(image.size, size, strict=True))
    cropped = image.crop((left, top, left + size[0], top + size[1]))
    return ImageOps.mirror(cropped) if draw.integers(2) else cropped
