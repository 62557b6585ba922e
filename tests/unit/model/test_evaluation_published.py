"""PromptHash as released: what its codes have seen, what it trains, and that nothing that serves reaches it."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from encoders.encode import FeatureEncoder
from encoders.prefix import PrefixCache
from encoders.protocol import Backbone
from encoders.registry import load_backbone
from model.artifact import load_hasher
from model.errors import ArtifactError, OracleError, RecipeError
from model.evaluation.oracle import Prompts, encode_oracle_codes, load_oracle
from model.evaluation.published import prompthash as published
from model.evaluation.published.encoder import PublishedEncoder
from model.evaluation.published.prompthash import Config, Joint, Network, Objective
from model.hasher import Modality
from model.items import ItemArchive
from model.methods.protocol import Features
from model.registry import METHODS, method_module
from model.states import States
from model.training.methods import trained_module
from model.training.optimiser import make_optimiser, set_rate
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import Optimiser, Recipe, load_recipe

NAME = "clip:crossbit-tiny:random"
NAMES = ("dog", "snow", "red_hat")
ROWS, LENGTHS = 9, (8, 16)
SMALL = Config(bits=(8,), auxiliary_bits=16, hidden=16, layers=1, positions=16)
KINDS = {"frozen": SMALL, "tuned": dataclasses.replace(SMALL, tuned_blocks=1)}
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(NAME, "cpu")


@pytest.fixture(scope="module")
def features(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Features]:
    """By the number of tuned blocks; one label a row, none for the last."""
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(ROWS)]
    words = ["dog", "two dogs in the snow", "red hat", "dog " * 20, "a", "snow on a hat", "x", "tree", "a tall tree"]
    encoder, folder = FeatureEncoder(backbone, None), tmp_path_factory.mktemp("published")
    image, text = (torch.from_numpy(s) for s in (encoder.encode_images(images), encoder.encode_texts(words).features))
    labels = torch.eye(3)[torch.arange(ROWS) % 3]
    labels[-1] = 0
    found = {}
    for tail in (0, 1):
        cache = PrefixCache(backbone, folder, image_tail=tail, text_tail=tail)
        found[tail] = Features(image, text, labels, States(cache, cache.add_images(images), cache.add_texts(words)))
    return found


def network(backbone: Backbone, config: Config = SMALL) -> Network:
    """In evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network.build(config, backbone, NAMES).eval()


def objective(own: Network, train: Features) -> Objective:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = Objective(own.config, own, train)
    made.begin()
    return made


def joint(own: Network, features: Features, rows: list[int]) -> Joint:
    with torch.no_grad():
        return own.joint(*own.enter(features, rows))


def relabelled(features: Features) -> Features:
    assert features.labels is not None
    return dataclasses.replace(features, labels=features.labels.roll(1, 0))


def drawing() -> torch.Generator:
    return torch.Generator().manual_seed(0)


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


def test_context_and_words_get_no_gradient_and_are_in_no_group(
    backbone: Backbone, features: dict[int, Features]
) -> None:
    own = network(backbone)
    made = objective(own, features[0])
    terms = made.losses(torch.arange(6), drawing())
    torch.stack(list(terms.values())).sum().backward()
    assert not own.prompt.context.requires_grad
    assert own.prompt.context.grad is None
    assert isinstance(backbone, nn.Module)
    assert all(parameter.grad is None for parameter in backbone.parameters())
    groups = own.parameter_groups()
    trained = {id(parameter) for group in groups for parameter in group.parameters}
    assert id(own.prompt.context) not in trained
    assert trained.isdisjoint({id(parameter) for parameter in backbone.parameters()})
    assert sum(len(group.parameters) for group in groups) == len(trained) == len(list(own.parameters()))


def test_a_step_moves_everything_but_the_context(backbone: Backbone, features: dict[int, Features]) -> None:
    own = network(backbone, KINDS["tuned"])
    made = objective(own, features[1])
    recipe = Optimiser(algorithm="bertadam", rate=0.1, weight_decay=0.01)
    optimiser = make_optimiser(recipe, own, made)
    before = {name: value.clone() for name, value in own.state_dict().items()}
    torch.stack(list(made.losses(torch.arange(6), drawing()).values())).sum().backward()
    set_rate(optimiser, 0.1)
    optimiser.step()
    still = {name for name, value in own.state_dict().items() if torch.equal(value, before[name])}
    assert "prompt.context" in still
    assert all(name.endswith(("gamma", "beta", "bias", "context")) for name in still), still


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_no_rate_is_in_no_group_and_read_once(
    backbone: Backbone, features: dict[int, Features], kind: str
) -> None:
    own = network(backbone, dataclasses.replace(KINDS[kind], tuned_rate=0.0))
    rows = features[own.config.tuned_blocks]
    trained = {id(parameter) for group in own.parameter_groups() for parameter in group.parameters}
    for name, parameter in own.named_parameters():
        still = name.startswith(("image_blocks.", "text_blocks.", "prompt."))
        assert (id(parameter) not in trained) == still, name
    made, chosen = objective(own, rows), torch.tensor([4, 0, 7])
    with torch.no_grad():
        expected = own.enter(rows, range(ROWS))  # padding is looked at, so what is read together matters
    for _ in range(2):
        for one, other in zip(made._entrance(chosen), expected, strict=True):
            assert not one.requires_grad
            assert torch.allclose(one, other[chosen], atol=TOLERANCE)


def test_reading_once_leaves_the_mode_of_the_network(backbone: Backbone, features: dict[int, Features]) -> None:
    own = network(backbone, dataclasses.replace(SMALL, tuned_rate=0.0))
    objective(own, features[0]).losses(torch.arange(4), drawing())
    assert not own.training


def test_rates_are_those_of_section_4(backbone: Backbone) -> None:
    own = network(backbone, KINDS["tuned"])
    rates = {id(parameter): group.rate for group in own.parameter_groups() for parameter in group.parameters}
    for name, parameter in own.named_parameters():
        part = name.split(".")[0]
        slow = {"image_blocks": 0.01, "text_blocks": 0.01, "prompt": 0.01, "fusion": 0.1}
        assert rates[id(parameter)] == slow.get(part, 1.0), name


@pytest.mark.parametrize("batches", [[[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[4, 1, 7, 0], [8, 2, 3, 6]]])
def test_targets_are_refreshed_once_an_epoch(
    backbone: Backbone, features: dict[int, Features], batches: list[list[int]]
) -> None:
    """In the second case a last batch of one row is left out, as the training loop does."""
    own = network(backbone)
    made = objective(own, features[0])

    def targets() -> list[Tensor]:
        return [made.get_buffer(f"target_{bits}").clone() for bits in LENGTHS]

    def signs() -> list[Tensor]:
        return [torch.where(sum(made._banks(bits)) > 0, 1.0, -1.0) for bits in LENGTHS]  # type: ignore[arg-type]

    def same(one: list[Tensor], other: list[Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    draws, held = torch.Generator().manual_seed(5), targets()
    assert same(held, signs())  # of random numbers
    for epoch in range(3):
        for place, batch in enumerate(batches):
            before = signs()
            for bits in LENGTHS:  # other codes at every step
                own.heads.heads[str(bits)].bias.data.copy_(3 * torch.randn(bits, generator=draws))
            made.losses(torch.tensor(batch), drawing())
            if epoch and not place:
                assert same(targets(), before)
                assert not same(targets(), held)
                held = targets()
            assert same(targets(), held)
            assert not same(signs(), held)


def test_the_affinity_term_is_that_of_a_literal_loop(backbone: Backbone, features: dict[int, Features]) -> None:
    generator = torch.Generator().manual_seed(0)
    bank, codes = torch.randn(5, 8, generator=generator), torch.randn(3, 8, generator=generator)
    bank[0], codes[0] = 10, 10  # beyond the limit of the inner product
    similar = torch.rand(5, 3, generator=generator) > 0.5
    total = 0.0
    for n in range(5):
        for j in range(3):
            t = 0.5 * max(-64.0, min(64.0, float(bank[n] @ codes[j])))
            total += math.log1p(math.exp(t)) - float(similar[n, j]) * t
    assert published._affinity(bank, codes, similar).item() == pytest.approx(total / 15, rel=1e-5)


def test_the_terms_are_those_of_section_3(backbone: Backbone, features: dict[int, Features]) -> None:
    own, rows = network(backbone), torch.tensor([7, 0, 4])
    made = objective(own, features[0])
    labels = features[0].labels
    assert labels is not None
    with torch.no_grad():
        terms = made.losses(rows, drawing())
        found = own.joint(*own.enter(features[0], rows.tolist()))
        codes = {bits: [own.heads(side, bits).tanh() for side in (found.image, found.text)] for bits in LENGTHS}
        similar = labels @ labels[rows].T > 0
        inter = intra = quantised = reconstructed = torch.zeros(())
        for bits in LENGTHS:
            mu = 20 if bits == 16 else 1
            (bank_i, bank_t), (h_i, h_t) = made._banks(bits), codes[bits]
            target = made.get_buffer(f"target_{bits}")[rows]
            assert torch.allclose(bank_i[rows], h_i, atol=TOLERANCE)  # written before the loss
            intra = intra + mu * (published._affinity(bank_i, h_i, similar) + published._affinity(bank_t, h_t, similar))
            inter = inter + mu * (published._affinity(bank_i, h_t, similar) + published._affinity(bank_t, h_i, similar))
            distance = (h_i - target).square().sum() + (h_t - target).square().sum()
            quantised = quantised + mu * distance / (3 * bits)
        for side in codes[8]:
            reconstructed = (
                reconstructed + (made.decoders["8"](side) - made.get_buffer("target_16")[rows]).square().sum() / 3
            )
    expected = {
        "intra": 0.005 * intra,
        "inter": 5 * inter,
        "quantisation": 0.1 * quantised,
        "reconstruction": 20 * 0.001 * reconstructed,
    }
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-4), name
    assert set(terms) == {*expected, "global", "local"}


def test_the_affinity_temperature_is_inert(backbone: Backbone, features: dict[int, Features]) -> None:
    made = objective(network(backbone), features[0])
    image, prompt = (nn.functional.normalize(torch.randn(4, 512, generator=drawing()), dim=1) for _ in range(2))
    s_i, s_p = image.softmax(1), (-prompt).softmax(1)
    middle = (s_i + s_p) / 2
    divergence = sum((middle * (middle / side).log()).sum(1).mean() for side in (s_i, s_p)) / 2
    found = made._affinity_temperature(image, -prompt)
    assert found == pytest.approx(0.07 / (1 + float(divergence)), rel=1e-5)
    assert 0.999 * 0.07 < found < 0.07


def test_without_pacl_or_prompt_there_is_no_local_term(backbone: Backbone, features: dict[int, Features]) -> None:
    for change in ({"pacl": False}, {"taap": False}):
        made = objective(network(backbone, dataclasses.replace(SMALL, **change)), features[0])  # type: ignore[arg-type]
        assert "local" not in made.losses(torch.arange(4), drawing())


def test_rows_without_labels_are_refused(backbone: Backbone, features: dict[int, Features]) -> None:
    made = objective(network(backbone), dataclasses.replace(features[0], labels=None))
    with pytest.raises(RecipeError, match="expected rows with labels, which the released encoder takes; found none"):
        made.losses(torch.arange(4), drawing())


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
