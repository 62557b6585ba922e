"""From an image to pixels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from encoders.preprocess import Preprocessing

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["pad", "crop"]))
def test_pixels_are_the_levels_less_mean_over_deviation(seed: int, fit: str) -> None:
    levels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    pixels = Preprocessing(16, fit, MEAN, STD)(Image.fromarray(levels)).numpy()
    mean, std = np.float32(MEAN), np.float32(STD)
    assert np.array_equal(pixels, ((levels.astype(np.float32) / np.float32(255) - mean) / std).transpose(2, 0, 1))
    assert pixels.flags["C_CONTIGUOUS"]
