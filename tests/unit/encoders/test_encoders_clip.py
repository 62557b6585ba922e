"""The open_clip adapter on a tiny random architecture, and on a checkpoint of it."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from encoders.alignment import asset
from encoders.clip import ClipBackbone
from encoders.encode import FeatureEncoder
from encoders.errors import BackboneNotFound, NoTowerAccess, WeightsUnusable
from encoders.names import with_file
from encoders.registry import load_backbone

if TYPE_CHECKING:
    from collections.abc import Callable

TINY = "clip:crossbit-tiny:random"


@pytest.fixture(scope="module")
def tiny() -> ClipBackbone:
    return ClipBackbone(TINY)


def test_both_towers_share_a_space_of_unit_vectors(tiny: ClipBackbone) -> None:
    encoder = FeatureEncoder(tiny)
    image = encoder.encode_images([Image.new("RGB", (40, 90), "blue")])
    text = encoder.encode_texts(["a blue square"]).features
    assert image.shape == text.shape == (1, tiny.joint_dim)
    assert np.allclose(np.linalg.norm([image[0], text[0]], axis=1), 1, atol=1e-5)


def test_features_are_the_same_alone_and_in_a_batch(tiny: ClipBackbone) -> None:
    encoder = FeatureEncoder(tiny)
    texts = ["one", "two and a half", "three"]
    assert np.array_equal(
        encoder.encode_texts(texts).features, np.concatenate([encoder.encode_texts([text]).features for text in texts])
    )


def test_random_weights_are_the_same_each_time(tiny: ClipBackbone) -> None:
    assert ClipBackbone(TINY).fingerprint == tiny.fingerprint


def test_a_local_checkpoint_is_loaded(tiny: ClipBackbone, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_file({name: value.contiguous() for name, value in tiny.model.state_dict().items()}, path)
    assert ClipBackbone(f"clip:crossbit-tiny:{path}").fingerprint == tiny.fingerprint


def test_a_long_text_is_read_in_chunks_of_the_context(tiny: ClipBackbone) -> None:
    tokens = tiny.tokenize("dog " * 20)
    assert [len(chunk) for chunk in tokens.chunks] == [16, 8]  # 20 tokens in 14 places between start and end
    assert tokens.truncated == 0
    assert tiny.tokenize("dog " * (8 * 14 + 3)).truncated == 3


def test_tokens_are_those_of_open_clip(tiny: ClipBackbone) -> None:
    text = "A dog &amp; its Ball"
    expected = tiny.tokenizer(text, context_length=16)[0]
    (chunk,) = tiny.tokenize(text).chunks
    assert torch.equal(torch.tensor([*chunk, *[0] * (16 - len(chunk))]), expected)


def test_padding_beyond_the_context_changes_nothing(tiny: ClipBackbone) -> None:
    tokens = torch.tensor(tiny.tokenize("a dog").chunks)
    wide = tiny.text_features(torch.nn.functional.pad(tokens, (0, 30)))
    assert torch.allclose(wide, tiny.text_features(tokens), atol=1e-6)


@pytest.mark.parametrize("name", ["clip:no-such-arch:random", "clip:crossbit-tiny", "resnet"])
def test_an_unknown_backbone_is_refused_by_name(name: str) -> None:
    with pytest.raises(BackboneNotFound, match="clip:ARCH:WEIGHTS"):
        load_backbone(name)


def test_without_open_clip_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "encoders.clip", None)
    load_backbone.cache_clear()
    with pytest.raises(BackboneNotFound, match=r"crossbit\[clip\]"):
        load_backbone("clip:crossbit-tiny:random")


def test_weights_that_are_not_here_name_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        BackboneNotFound, match=rf"'openai' of ViT-B-32.*looked in {tmp_path}.*train with --weights PATH"
    ):
        load_backbone("clip:ViT-B-32:openai")


def test_a_file_that_went_away_is_named_beside_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BackboneNotFound, match=rf"looked in {tmp_path}/gone.pt and {tmp_path}"):
        load_backbone(f"clip:ViT-B-32:openai={tmp_path}/gone.pt")
    with pytest.raises(BackboneNotFound, match=r"in /gone\.pt, found no such file"):
        load_backbone("clip:ViT-B-32:/gone.pt")


def test_a_tag_of_another_architecture_lists_the_known_ones() -> None:
    with pytest.raises(BackboneNotFound, match=r"tag of ViT-B-32 \(openai, .*found 'metaclip_worldwide'"):
        load_backbone("clip:ViT-B-32:metaclip_worldwide")


@pytest.fixture
def tagged(tiny: ClipBackbone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A tag of the tiny architecture, with its weights in the hub's cache; gives another file of them."""
    made = {"hf_hub": "nobody/tiny/", "quick_gelu": True, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "crossbit-tiny", {"metaclip_tiny": made})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--nobody--tiny"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    weights = {name: value.contiguous() for name, value in tiny.model.state_dict().items()}
    save_file(weights, repository / "snapshots" / "abc" / "open_clip_model.safetensors")
    torch.save(weights, tmp_path / "tiny.pt")
    return tmp_path / "tiny.pt"


def test_a_tag_is_loaded_from_the_cache_with_its_activation_and_preprocessing(tagged: Path) -> None:
    backbone = ClipBackbone("clip:crossbit-tiny:metaclip_tiny")
    assert backbone.config["activation"] == "QuickGELU"
    assert backbone.config["mean"] == (0.5, 0.5, 0.5)
    assert backbone.licences == {"clip:crossbit-tiny:metaclip_tiny": "CC-BY-NC-4.0 (no commercial use)"}


def test_a_tag_in_a_file_is_the_same_backbone_as_from_the_hub(tagged: Path) -> None:
    from_hub = ClipBackbone("clip:crossbit-tiny:metaclip_tiny")
    from_file = ClipBackbone(with_file("clip:crossbit-tiny:metaclip_tiny", tagged))
    assert from_file.fingerprint == from_hub.fingerprint
    assert from_file.licences == from_hub.licences


def test_the_activation_of_a_tag_enters_the_fingerprint(tagged: Path) -> None:
    assert ClipBackbone(f"clip:crossbit-tiny:{tagged}").fingerprint == ClipBackbone(TINY).fingerprint
    assert ClipBackbone("clip:crossbit-tiny:metaclip_tiny").fingerprint != ClipBackbone(TINY).fingerprint


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"visual.proj": torch.zeros(2, 2)}, path)
    with pytest.raises(WeightsUnusable, match=r"state dict of crossbit-tiny.*found .*other\.safetensors"):
        ClipBackbone(f"clip:crossbit-tiny:{path}")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(b"not a checkpoint" * 9)
    with pytest.raises(WeightsUnusable, match="damaged"):
        ClipBackbone(f"clip:crossbit-tiny:{path}")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "ran"),)

    torch.save({"visual.proj": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(WeightsUnusable, match=r"evil\.pt"):
        ClipBackbone(f"clip:crossbit-tiny:{tmp_path / 'evil.pt'}")
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_of_the_hub_reads_the_head_and_pads_in_its_own_way(tmp_path: Path) -> None:
    unknown, padding = "[UNK]", "[PAD]"
    words = Tokenizer(WordLevel({unknown: 0, padding: 1, "dog": 2}, unk_token=unknown))
    words.pre_tokenizer = Whitespace()
    make: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast
    make(tokenizer_object=words, pad_token=padding).save_pretrained(tmp_path / "tokenizer")
    config = json.loads(asset("crossbit-tiny.json").read_text())
    config["text_cfg"] |= {"hf_tokenizer_name": str(tmp_path / "tokenizer"), "vocab_size": 3}
    (tmp_path / "crossbit-words.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "crossbit-words.json")
    backbone = ClipBackbone("clip:crossbit-words:random")
    assert backbone.tokenize("dog cat").chunks == ((2, 0, *[1] * 14),)
    long = backbone.tokenize("dog " * 20)
    assert (long.chunks, long.truncated) == (((2,) * 16,), 4)
    assert backbone.config["text_max_chunks"] == 1
    features = FeatureEncoder(backbone).encode_texts(["dog cat"]).features
    expected = backbone.model.encode_text(torch.tensor([[2, 0, *[1] * 14]]), normalize=True)
    assert np.allclose(features, expected.detach().numpy(), atol=1e-6)
    with pytest.raises(NoTowerAccess):
        _ = backbone.text_tower
