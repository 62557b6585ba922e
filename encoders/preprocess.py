"""From an RGB image to the pixels a tower sees."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes pixels; part of every fingerprint."""

    image_size: int
    fit: str  # "pad": whole image on a white square; "crop": short side scaled, centre square
    mean: tuple[float, float, float]  # of values in 0..1
    std: tuple[float, float, float]

    def __call__(self, image: Image.Image) -> Tensor:
        """RGB image -> (3, image_size, image_size) float32."""
        square = self._pad(image) if self.fit == "pad" else self._crop(image)
        mean, std = np.array(self.mean, dtype=np.float32), np.array(self.std, dtype=np.float32)
        scaled = (np.asarray(square, dtype=np.float32) / np.float32(255) - mean) / std  # (H, W, 3)
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))

    def _pad(self, image: Image.Image) -> Image.Image:
        scale = self.image_size / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        square = Image.new("RGB", (self.image_size, self.image_size), "white")
        corner = ((self.image_size - size[0]) // 2, (self.image_size - size[1]) // 2)
        square.paste(image.resize(size, Image.Resampling.BICUBIC), corner)
        return square

    def _crop(self, image: Image.Image) -> Image.Image:
        side = min(image.size)  # crop before scaling: a 20,000 x 1 image never grows
        left, top = (image.width - side) // 2, (image.height - side) // 2
        size = (self.image_size, self.image_size)
        return image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
