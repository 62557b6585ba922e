"""The CUDA path: on a stub everywhere, on a device where there is one (``make test-gpu``)."""

import golden
import numpy as np
import pytest
import torch
from fake_cuda import CUDA, fake_cuda
from PIL import Image

from encoders.device import make_repeatable
from encoders.encode import PATHS, EncodePath, FeatureEncoder
from encoders.registry import load_backbone
from model.items import ItemArchive
from model.margins import count_flips

TEXTS = ["red apple", "a dog on a leash", "two words " * 10]
IMAGES = [Image.new("RGB", (9, 5), colour) for colour in ("red", "green", "blue")]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def test_weights_and_every_input_are_sent_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PATHS, "cuda", EncodePath(chunk=2, length_step=16))
    with fake_cuda(monkeypatch) as transfers:
        backbone = load_backbone(device="cuda")
        state = backbone.state_dict()
        assert {shape for shape, _ in transfers.sent} >= {tuple(tensor.shape) for tensor in state.values()}
        transfers.sent.clear()
        encoder = FeatureEncoder(backbone)
        images, texts = encoder.encode_images(IMAGES), encoder.encode_texts(TEXTS).features
        pixels, tokens = (2, 3, 224, 224), [(2, 16), (2, 32)]
        assert [shape for shape, _ in transfers.sent] == [pixels, pixels, *tokens]
        assert all(is_beside for _, is_beside in transfers.sent)
        assert transfers.pinned == len(transfers.sent)
    plain = FeatureEncoder(load_backbone(device="cpu"))
    assert np.allclose(images, plain.encode_images(IMAGES), atol=1e-4)
    assert np.allclose(texts, plain.encode_texts(TEXTS).features, atol=1e-5)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[float] = []
    monkeypatch.setenv("CROSSBIT_CUDA_MEMORY_SHARE", "0.25")
    with fake_cuda(monkeypatch):
        monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", bounds.append)
        make_repeatable(CUDA)
    assert bounds == [0.25]


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_gives_the_same_bits_alone_in_a_batch_and_in_any_order() -> None:
    encoder = FeatureEncoder(load_backbone(device="cuda"))
    for encode, inputs in (
        (encoder.encode_images, IMAGES),
        (lambda texts: encoder.encode_texts(texts).features, TEXTS * 20),
    ):
        alone = np.concatenate([encode([one]) for one in inputs])
        assert np.array_equal(encode(inputs), alone)
        assert np.array_equal(encode(inputs[::-1]), alone[::-1])


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_flips_no_golden_bit(archive: ItemArchive) -> None:
    codes = golden.golden_codes()
    made = golden.encode(golden.golden_hasher("cuda"), archive, list(codes["images"]), list(codes["texts"]))
    for kind, batch in made.items():
        expected = np.array([list(bytes.fromhex(code)) for code in codes[kind].values()], dtype=np.uint8)
        assert count_flips(batch, expected).above == 0


@pytest.mark.gpu
@needs_gpu
def test_a_full_gpu_changes_no_feature_or_says_so() -> None:
    encoder = FeatureEncoder(load_backbone(device="cuda"))
    expected = encoder.encode_images(IMAGES)
    free, _ = torch.cuda.mem_get_info()
    hog = torch.empty(max(0, free - 64 * 2**20), dtype=torch.uint8, device="cuda")
    try:
        assert np.array_equal(encoder.encode_images(IMAGES), expected)
    except torch.OutOfMemoryError:
        pass  # no smaller forward is known to give the same bits: refused, never rounded otherwise
    finally:
        del hog
        torch.cuda.empty_cache()  # the next tests, and whoever shares the device, need it
