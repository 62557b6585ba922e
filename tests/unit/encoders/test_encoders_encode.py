"""The canonical path: the same bits alone, in any batch, in any order, in any process, with and without the cache."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encoders.device import make_repeatable
from encoders.encode import PATHS, FeatureEncoder
from encoders.errors import TextError
from encoders.registry import load_backbone
from model.images import decode_image
from model.items import ItemArchive

TEXTS = ["red apple", "a dog on a leash", "Flag of Chad", "x", "two words " * 40]


@pytest.fixture(scope="session")
def encoder() -> FeatureEncoder:
    return FeatureEncoder(load_backbone(device="cpu"))


@pytest.fixture(scope="session")
def images(archive: ItemArchive) -> list[Image.Image]:
    return [decode_image(archive.read_image(item)) for item in archive.items[:6]]


def test_image_features_are_the_same_alone_and_in_a_batch_in_any_order(
    encoder: FeatureEncoder, images: list[Image.Image]
) -> None:
    together = encoder.encode_images(images)
    alone = np.concatenate([encoder.encode_images([image]) for image in reversed(images)])[::-1]
    assert np.array_equal(together, alone)


def test_text_features_are_the_same_alone_and_in_a_batch_in_any_order(encoder: FeatureEncoder) -> None:
    together = encoder.encode_texts(TEXTS).features
    alone = np.concatenate([encoder.encode_texts([text]).features for text in reversed(TEXTS)])[::-1]
    assert np.array_equal(together, alone)


def test_features_do_not_depend_on_torch_threads(encoder: FeatureEncoder, images: list[Image.Image]) -> None:
    one = encoder.encode_images(images[:2]), encoder.encode_texts(TEXTS).features
    with ThreadPoolExecutor(2) as pool:  # as the server does: several calls at once
        image_calls = list(pool.map(lambda _: encoder.encode_images(images[:2]), range(2)))
        text_calls = list(pool.map(lambda _: encoder.encode_texts(TEXTS).features, range(2)))
    assert all(np.array_equal(one[0], other) for other in image_calls)
    assert all(np.array_equal(one[1], other) for other in text_calls)


def test_features_do_not_depend_on_a_thread_count_that_was_set_since(
    encoder: FeatureEncoder, images: list[Image.Image]
) -> None:
    one = encoder.encode_images(images[:2]), encoder.encode_texts(TEXTS).features
    torch.set_num_threads(2)
    assert np.array_equal(encoder.encode_images(images[:2]), one[0])
    torch.set_num_threads(2)
    assert np.array_equal(encoder.encode_texts(TEXTS).features, one[1])


def test_texts_that_share_forwards_have_the_features_of_lone_ones(encoder: FeatureEncoder) -> None:
    """Enough of one bucket for the largest stand-in, of lengths that fill the bucket and lengths that do not."""
    texts = [f"{'red ' * (1 + number % 4)}{number}" for number in range(40)]
    alone = np.concatenate([encoder.encode_texts([text]).features for text in texts])
    for _ in range(2):  # the first time sizes are tried, the second they are known
        assert np.array_equal(encoder.encode_texts(texts).features, alone)
    assert np.array_equal(encoder.encode_texts(texts[::-1]).features, alone[::-1])


def test_features_are_the_same_in_another_process(encoder: FeatureEncoder) -> None:
    script = (
        "import sys, hashlib\nfrom encoders.encode import FeatureEncoder\nfrom encoders.registry import load_backbone\n"
        "features = FeatureEncoder(load_backbone(device='cpu')).encode_texts(['red apple']).features\n"
        "sys.stdout.write(features.tobytes().hex())"
    )
    # an environment with another thread count must not matter
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"OMP_NUM_THREADS": "2", "PATH": "", "HF_HUB_OFFLINE": "1"},
    ).stdout
    assert out == encoder.encode_texts(["red apple"]).features.tobytes().hex()


def test_joint_part_of_both_features_is_unit_length(encoder: FeatureEncoder, images: list[Image.Image]) -> None:
    joint = encoder.backbone.joint_dim
    for features in (encoder.encode_images(images), encoder.encode_texts(TEXTS).features):
        assert np.allclose(np.linalg.norm(features[:, :joint], axis=1), 1, atol=1e-5)


def test_cached_features_equal_computed_ones(tmp_path: Path, images: list[Image.Image]) -> None:
    backbone = load_backbone(device="cpu")
    plain = FeatureEncoder(backbone)
    expected = plain.encode_images(images), plain.encode_texts(TEXTS).features
    FeatureEncoder(backbone, tmp_path).encode_images(images[:3])
    cached = FeatureEncoder(backbone, tmp_path)  # half from disk, half fresh
    assert np.array_equal(cached.encode_images(images), expected[0])
    cached.encode_texts(TEXTS)
    assert np.array_equal(FeatureEncoder(backbone, tmp_path).encode_texts(TEXTS).features, expected[1])


def test_a_cached_input_does_not_pass_the_towers_again(
    tmp_path: Path, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_backbone(device="cpu")
    FeatureEncoder(backbone, tmp_path).encode_images(images[:2])

    def refuse(*_: object) -> torch.Tensor:
        raise AssertionError("the tower ran")

    monkeypatch.setattr(backbone, "image_features", refuse)
    assert len(FeatureEncoder(backbone, tmp_path).encode_images(images[:2])) == 2


def test_no_inputs_give_no_rows(encoder: FeatureEncoder) -> None:
    assert encoder.encode_images([]).shape == (0, encoder.backbone.image_dim)
    assert encoder.encode_texts([]).features.shape == (0, encoder.backbone.text_dim)


def test_a_long_text_is_the_mean_of_its_chunks(encoder: FeatureEncoder) -> None:
    text = "flower " * 300
    chunks = encoder.backbone.tokenize(text).chunks
    assert len(chunks) == 2
    with torch.inference_mode():
        parts = [encoder.backbone.text_features(torch.tensor([ids])).numpy() for ids in chunks]
    assert np.allclose(encoder.encode_texts([text]).features[0], np.mean(parts, axis=0)[0], atol=1e-6)


def test_tokens_beyond_the_last_chunk_are_counted(encoder: FeatureEncoder) -> None:
    assert encoder.encode_texts(["word " * 254 * 8, "word " * (254 * 8 + 5)]).truncated_tokens.tolist() == [0, 5]


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_text_is_refused(encoder: FeatureEncoder, text: str) -> None:
    with pytest.raises(TextError, match="at least one visible character"):
        encoder.encode_texts(["fine", text])


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000), (224, 224)])
def test_any_shape_of_image_has_features(encoder: FeatureEncoder, size: tuple[int, int]) -> None:
    assert np.isfinite(encoder.encode_images([Image.new("RGB", size, "red")])).all()


def test_the_chunks_of_the_gpu_path_keep_order_and_values(
    encoder: FeatureEncoder, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shapes that CUDA uses, run on the CPU: padded chunks and length buckets change rounding, nothing else."""
    monkeypatch.setitem(PATHS, "cpu", PATHS["cuda"])
    chunked = FeatureEncoder(encoder.backbone)
    assert np.allclose(chunked.encode_images(images), encoder.encode_images(images), atol=1e-4)
    assert np.allclose(chunked.encode_texts(TEXTS).features, encoder.encode_texts(TEXTS).features, atol=1e-5)
    assert np.array_equal(chunked.encode_texts(TEXTS[1:2]).features, chunked.encode_texts(TEXTS).features[1:2])


def test_repeatable_settings_of_cuda_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", calls.append)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    make_repeatable(torch.device("cuda"))
    assert calls == [True]
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_num_threads() == 1
