"""PromptHash as released: what its codes have seen, and that nothing that serves reaches it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_published import KINDS, NAME, SMALL, TOLERANCE, make_features, network

from encoders.protocol import Backbone
from encoders.registry import load_backbone
from model.artifact import load_hasher
from model.errors import ArtifactError, OracleError, RecipeError
from model.evaluation.oracle import Prompts, encode_oracle_codes, load_oracle
from model.evaluation.published import prompthash as published
from model.evaluation.published.encoder import PublishedEncoder
from model.evaluation.published.prompthash import Config, Joint, Network
from model.hasher import Modality
from model.items import ItemArchive
from model.methods.protocol import Features
from model.registry import METHODS, method_module
from model.training.methods import trained_module
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import Recipe, load_recipe


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(NAME, "cpu")


@pytest.fixture(scope="module")
def features(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Features]:
    return make_features(backbone, tmp_path_factory.mktemp("published"))


def joint(own: Network, features: Features, rows: list[int]) -> Joint:
    with torch.no_grad():
        return own.joint(*own.enter(features, rows))


def relabelled(features: Features) -> Features:
    assert features.labels is not None
    return dataclasses.replace(features, labels=features.labels.roll(1, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_codes_depend_on_the_true_labels(backbone: Backbone, features: dict[int, Features], kind: str) -> None:
    own = network(backbone, KINDS[kind])
    rows = features[own.config.tuned_blocks]
    told, otherwise = (joint(own, one, list(range(6))) for one in (rows, relabelled(rows)))
    for side in ("image", "text", "prompt"):
        assert ((getattr(told, side) - getattr(otherwise, side)).abs().amax(1) > 1e-4).all(), side


def test_without_fusion_labels_reach_the_text_alone(backbone: Backbone, features: dict[int, Features]) -> None:
    own = network(backbone, dataclasses.replace(SMALL, agsf=False))
    told, otherwise = (joint(own, one, list(range(6))) for one in (features[0], relabelled(features[0])))
    assert torch.equal(told.image, otherwise.image)
    assert not torch.allclose(told.text, otherwise.text, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_depend_on_the_other_modality(backbone: Backbone, features: dict[int, Features], kind: str) -> None:
    own = network(backbone, KINDS[kind])
    rows = features[own.config.tuned_blocks]
    assert rows.states is not None
    states = dataclasses.replace(rows.states, texts=list(rows.states.texts)[::-1])
    before, after = (joint(own, one, [0, 1]) for one in (rows, dataclasses.replace(rows, states=states)))
    assert ((before.image - after.image).abs().amax(1) > 1e-5).all()


@pytest.mark.parametrize("kind", KINDS)
def test_codes_depend_on_company(backbone: Backbone, features: dict[int, Features], kind: str) -> None:
    own = network(backbone, KINDS[kind])
    rows = features[own.config.tuned_blocks]
    one, other, alone = (joint(own, rows, company) for company in ([0, 1, 2], [0, 4, 5], [0]))
    for side in ("image", "text"):
        first = [getattr(found, side)[0] for found in (one, other, alone)]
        assert (first[0] - first[1]).abs().max() > 1e-5
        assert (first[0] - first[2]).abs().max() > 1e-5


def test_without_fusion_codes_do_not_depend_on_company(backbone: Backbone, features: dict[int, Features]) -> None:
    own = network(backbone, dataclasses.replace(SMALL, agsf=False, taap=False))
    one, other = (joint(own, features[0], company) for company in ([0, 1, 2], [0]))
    assert torch.allclose(one.image[0], other.image[0], atol=TOLERANCE)
    assert torch.allclose(one.text[0], other.text[0], atol=TOLERANCE)


@pytest.mark.parametrize("config", [dataclasses.replace(SMALL, prompts="none"), dataclasses.replace(SMALL, taap=False)])
def test_without_class_names_labels_are_irrelevant(
    backbone: Backbone, features: dict[int, Features], config: Config
) -> None:
    own = network(backbone, config)
    told, otherwise = (joint(own, one, list(range(6))) for one in (features[0], relabelled(features[0])))
    assert torch.equal(told.image, otherwise.image)
    assert torch.equal(told.text, otherwise.text)


def test_prompts_name_the_classes_of_each_row(backbone: Backbone, features: dict[int, Features]) -> None:
    own = network(backbone)
    labels = torch.tensor([[1.0, 0, 0], [1, 0, 1], [0, 0, 0]])
    rows = dataclasses.replace(features[0].part(slice(0, 3)), labels=labels)
    prompts = ["dog.", "dog and red hat.", ""]
    expected = [backbone.tokenize(f"This is an image containing {names}".strip()).chunks[0] for names in prompts]
    found = own._prompts.ids(rows, [0, 1, 2])
    assert [[value for value in row if value] for row in found.tolist()] == [list(ids) for ids in expected]


def test_vectors_are_made_in_companies_of_consecutive_rows(backbone: Backbone, features: dict[int, Features]) -> None:
    assert SMALL.company == 128  # as released
    own = network(backbone, dataclasses.replace(SMALL, company=4))
    with torch.no_grad():
        images, texts = own.vectors(features[0]).values()
    parts = [joint(own, features[0], rows) for rows in ([0, 1, 2, 3], [4, 5, 6, 7], [8])]
    assert torch.equal(images, torch.cat([part.image for part in parts]))
    assert torch.equal(texts, torch.cat([part.text for part in parts]))


def test_the_order_of_fusion_is_that_of_section_2_5(backbone: Backbone, features: dict[int, Features]) -> None:
    own, rows = network(backbone), [0, 1, 2]
    with torch.no_grad():
        i0, t0, p0 = own.enter(features[0], rows)
        assert p0 is not None
        i1, t1 = own.fusion(i0, t0)
        i2, p1 = own.fusion(i1, p0)
        expected = [own.mlp(0.5 * raw + 0.5 * fused) for raw, fused in ((i0, i2), (t0, t1), (p0, p1))]
    found = joint(own, features[0], rows)
    assert found.prompt is not None
    for one, other in zip(expected, (found.image, found.text, found.prompt), strict=True):
        assert torch.allclose(one, other, atol=TOLERANCE)


def test_its_prompt_layers_do_not_start_as_those_of_the_tower(backbone: Backbone) -> None:
    towers = [tensor for block in backbone.text_tower.blocks for tensor in block.parameters() if tensor.dim() > 1]
    own = [tensor for tensor in network(backbone).prompt.transformer.parameters() if tensor.dim() > 1]
    assert len(own) == len(towers)
    assert not any(torch.equal(one, other) for one, other in zip(own, towers, strict=True))


def test_a_caption_of_several_chunks_has_one_vector(backbone: Backbone, features: dict[int, Features]) -> None:
    found = joint(network(backbone), features[0], [3, 2])
    assert found.text.shape == (2, backbone.joint_dim)
    assert found.text.isfinite().all()


@pytest.mark.parametrize(
    ("overrides", "named"),
    [(["config.prompts=true"], "prompts"), (["config.prompts=all"], "prompts"), (["config.positions=4"], "positions"),
     (["config.bits=[12]"], "bits"), (["config.bank_rows=-1"], "bank_rows"), (["config.company=0"], "company")],
)  # fmt: skip
def test_values_that_cannot_be_are_refused_by_name(overrides: list[str], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        load_recipe("prompthash-published", overrides)


def test_no_service_can_reach_it() -> None:
    assert trained_module("prompthash-published") is published
    assert "prompthash-published" not in METHODS
    with pytest.raises(RecipeError, match=r"method: expected one of .*, found 'prompthash-published'"):
        method_module("prompthash-published")


@pytest.fixture(scope="module")
def trained(archive: ItemArchive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("released")
    overrides = [f"backbone={NAME}", "config.bits=[16]", "config.auxiliary_bits=24", "config.hidden=16"]
    recipe: Recipe = load_recipe(
        "prompthash-published", [*overrides, "config.tuned_blocks=0", "optimiser.epochs=1", "selection.bits=16"]
    )
    folders = Folders(home / "runs", home / "artifacts", home / "cache")
    train_artifact(recipe, archive, "released", folders, device="cpu")
    return folders.artifacts / "released"


def test_its_artifact_is_not_served(trained: Path) -> None:
    with pytest.raises(ArtifactError, match=r"encodes without labels .* --oracle measures it"):
        load_hasher(trained, 16, "cpu")


def test_its_artifact_is_measured_with_the_labels(trained: Path, archive: ItemArchive, tmp_path: Path) -> None:
    few = ItemArchive.open(archive.path)
    few.items = (*archive.select(("query",))[:8], *archive.database()[:16])
    oracle = load_oracle(trained, 16, "cpu", tmp_path)
    assert isinstance(oracle, PublishedEncoder)
    codes = {prompts: encode_oracle_codes(oracle, few, prompts=prompts) for prompts in Prompts}
    again = encode_oracle_codes(oracle, few)
    for modality in (Modality.IMAGE, Modality.TEXT):
        margins = [codes[prompts].query_margins[modality] for prompts in Prompts]
        assert np.array_equal(again.query_margins[modality], margins[0])
        assert not np.array_equal(margins[0], margins[1])
        assert not np.array_equal(margins[0], margins[2])


def test_a_method_that_takes_no_label_has_no_oracle(trained: Path, tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    text = (trained / "manifest.json").read_text().replace('"method": "prompthash-published"', '"method": "prompthash"')
    (served / "manifest.json").write_text(text)
    with pytest.raises(OracleError, match="leave out --oracle"):
        load_oracle(served, 16, "cpu")
