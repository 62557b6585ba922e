"""Training and what it makes on a CUDA device, where there is one (``make test-gpu``)."""

from pathlib import Path

import pytest
import torch

from model.artifact import load_hasher
from model.evaluation.codes import encode_codes
from model.evaluation.oracle import encode_oracle_codes
from model.evaluation.published.encoder import load_published
from model.hasher import Modality
from model.images import decode_image
from model.items import ItemArchive, caption
from model.margins import count_flips
from model.ssm import Mamba
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import load_recipe

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
SMALL = ["config.bits=[16,32]", "config.hidden=32", "selection.bits=16", "optimiser.epochs=2", "optimiser.batch=32"]
SERVED = {
    "baseline": [],
    "prompthash": ["config.taap=true", "config.agsf=true", "config.predicted_prompt=true"],
    "prompthash-tuned": [],
    "pghmh": [],
    "pghmh-lite": [],
    "baseline-pair": [],
}
PUBLISHED = {"prompthash-published": [], "pghmh-published": ["config.auxiliary_bits=32"]}


def trained(recipe: str, settings: list[str], archive: ItemArchive, folder: Path) -> Path:
    folders = Folders(folder / "runs", folder / "artifacts", folder / "cache")
    manifest = train_artifact(load_recipe(recipe, [*SMALL, *settings]), archive, "small", folders, device="cuda")
    assert manifest.training["device"] == "cuda"
    return folder / "artifacts" / "small"


@pytest.mark.parametrize("recipe", SERVED)
def test_what_a_gpu_trained_gives_the_codes_of_a_cpu_within_the_margins(
    recipe: str, archive: ItemArchive, tmp_path: Path
) -> None:
    artifact = trained(recipe, SERVED[recipe], archive, tmp_path)
    hashers = {device: load_hasher(artifact, 32, device) for device in ("cuda", "cpu")}
    items = archive.select(("query",))[:8]
    images = [decode_image(archive.read_image(item)) for item in items]
    texts = [caption(item, "title") for item in items]
    for encode in ("encode_images", "encode_texts"):
        inputs = images if encode == "encode_images" else texts
        made = {device: getattr(hasher, encode)(inputs) for device, hasher in hashers.items()}
        assert count_flips(made["cuda"], made["cpu"].codes).above == 0
    if Modality.PAIR in hashers["cuda"].modalities:
        fused = {device: hasher.encode_pairs(images, texts) for device, hasher in hashers.items()}
        assert count_flips(fused["cuda"], fused["cpu"].codes).above == 0
    assert len(encode_codes(hashers["cuda"], archive).database_ids) > 0


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_gpu_trains_and_encodes_what_is_told_labels(recipe: str, archive: ItemArchive, tmp_path: Path) -> None:
    artifact = trained(recipe, PUBLISHED[recipe], archive, tmp_path)
    codes = encode_oracle_codes(load_published(artifact, 32, "cuda", tmp_path / "cache"), archive)
    assert all(side.shape[1] == 4 for side in codes.database.values())


@pytest.mark.parametrize("length", [1, 2, 77, 128])
def test_the_state_space_block_is_the_same_on_a_gpu(length: int) -> None:
    torch.manual_seed(0)
    block, x = Mamba(32), torch.randn(3, length, 32)
    gradients, outputs = [], []
    for device in ("cpu", "cuda"):
        inputs = x.to(device).requires_grad_()
        outputs.append(block.to(device)(inputs))
        gradients.append(torch.autograd.grad(outputs[-1].square().mean(), inputs)[0].cpu())
    assert torch.allclose(outputs[0], outputs[1].cpu(), atol=1e-5)
    assert torch.allclose(*gradients, atol=1e-6)
