import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.errors import ModalityError
from model.fake import FakeHasher, FusingFakeHasher
from model.hasher import Hasher, Modality

IMAGES = [Image.new("RGB", (4, 3), color) for color in ("red", "blue", "green")]
TEXTS = ["red", "blue " * 258, "green"]


def distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.bitwise_count(one ^ other).sum())


def test_only_the_fusing_one_fuses() -> None:
    assert isinstance(FusingFakeHasher(), Hasher)
    assert FusingFakeHasher().modalities == frozenset(Modality)
    with pytest.raises(ModalityError, match="does not"):
        FakeHasher().encode_pairs(IMAGES, TEXTS)


def test_a_fused_code_depends_on_both_parts_and_on_no_other_pair() -> None:
    hasher = FusingFakeHasher(128)
    together = hasher.encode_pairs(IMAGES, TEXTS).codes
    alone = [hasher.encode_pairs([image], [text]).codes[0] for image, text in zip(IMAGES, TEXTS, strict=True)]
    assert np.array_equal(together, alone)
    others = [hasher.encode_pairs([IMAGES[0]], ["other"]), hasher.encode_pairs([IMAGES[1]], [TEXTS[0]])]
    assert all(not np.array_equal(together[0], other.codes[0]) for other in others)


def test_a_fused_code_lies_near_the_codes_of_its_parts() -> None:
    hasher = FusingFakeHasher(1024)
    fused = hasher.encode_pairs(IMAGES, TEXTS).codes
    for parts in (hasher.encode_images(IMAGES).codes, hasher.encode_texts(TEXTS).codes):
        near = [distance(fused[row], parts[row]) for row in range(3)]
        far = [distance(fused[row], parts[row - 1]) for row in range(3)]
        assert max(near) < 350 < 420 < min(far)


def test_truncated_tokens_of_pairs_are_counted() -> None:
    assert FusingFakeHasher().encode_pairs(IMAGES, TEXTS).truncated_tokens.tolist() == [0, 2, 0]


def test_another_seed_is_another_model() -> None:
    fingerprints = {kind(seed=seed).fingerprint for kind in (FakeHasher, FusingFakeHasher) for seed in ("a", "b")}
    assert len(fingerprints) == 4


def test_every_image_needs_its_text() -> None:
    with pytest.raises(ValueError, match="found 3 images and 1 texts"):
        FusingFakeHasher().encode_pairs(IMAGES, ["one"])
