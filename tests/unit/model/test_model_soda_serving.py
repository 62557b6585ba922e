"""SODA as it is served: acceptance tests 2 to 5 on the 200-item fixture, and keyword queries."""

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny_clip
import torch
from PIL.Image import Image
from safetensors.torch import load_file

from encoders.protocol import Backbone
from model import label_prompts
from model.artifact import load_hasher, verify_artifact
from model.errors import KeywordError, ModalityError
from model.evaluation.codes import CodeSet, Protocol, encode_codes
from model.evaluation.keywords import keyword_codes
from model.evaluation.results import as_json, as_table, evaluate_codes
from model.hasher import EncodedBatch, KeywordHasher, Modality
from model.images import decode_image
from model.items import ItemArchive
from model.keywords import parse_keywords
from model.methods import soda
from model.training.pipeline import Folders
from model.training.recipe import load_recipe

BITS = 64
SMALL = (
    f"backbone={tiny_clip.BACKBONE}",
    "config.bits=[16, 64]",
    "config.auxiliary_bits=0",
    "config.width=32",
    "config.hidden=32",
    "optimiser.batch=50",
    "optimiser.epochs=2",
    "selection.bits=16",
    "selection.every=1",
)
MODES: dict[str, tuple[str, ...]] = {
    "frozen": SMALL,
    "tuned": (*SMALL, "config.tuned_blocks=1", "config.image_views=2"),
    "per-class": (*SMALL, "config.label_prompt=per_class"),
    "learned": (*SMALL, "config.label_prompt=learned"),
    "shared": (*SMALL, "config.shared_label_head=true"),
}
TEXTS = ["a red apple", "flag", "two small trees by a house, " * 8, "a dog"]  # the third is cut into chunks


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return tiny_clip.folders_in(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module", params=list(MODES))
def artifact(request: pytest.FixtureRequest, archive: ItemArchive, folders: Folders) -> Path:
    tiny_clip.train_tiny(archive, "soda", MODES[request.param], request.param, folders)
    return folders.artifacts / request.param


@pytest.fixture(scope="module")
def hasher(artifact: Path, folders: Folders) -> KeywordHasher:
    made = load_hasher(artifact, BITS, "cpu", folders.cache)
    assert isinstance(made, KeywordHasher)
    return made


@pytest.fixture(scope="module")
def few(archive: ItemArchive) -> ItemArchive:
    other = ItemArchive.open(archive.path)
    other.items = (*archive.select(("query",))[:10], *archive.database()[::8])
    return other


@pytest.fixture(scope="module")
def codes(hasher: KeywordHasher, few: ItemArchive) -> CodeSet:
    return encode_codes(hasher, few)


@pytest.fixture(scope="module")
def pictures(archive: ItemArchive) -> list[Image]:
    return [decode_image(archive.read_image(item)) for item in archive.items[:4]]


def same(one: EncodedBatch, other: EncodedBatch) -> bool:
    return np.array_equal(one.codes, other.codes) and np.array_equal(one.margins, other.margins)


def joined(batches: Sequence[EncodedBatch]) -> EncodedBatch:
    parts = ([getattr(one, name) for one in batches] for name in ("codes", "margins", "truncated_tokens"))
    return EncodedBatch(*map(np.concatenate, parts))


@pytest.mark.parametrize("mode", ["frozen", "tuned"])
def test_the_student_leaves_the_image_branch_as_the_teacher_made_it(
    archive: ItemArchive, tmp_path: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Acceptance test 2 over a whole run, tuned blocks included."""
    begin_stage, kept = soda.Objective.begin_stage, dict[str, torch.Tensor]()

    def watched(self: soda.Objective, stage: int) -> None:
        begin_stage(self, stage)
        kept.update({name: value.clone() for name, value in self._borrowed[0].state_dict().items()})

    monkeypatch.setattr(soda.Objective, "begin_stage", watched)
    own = dataclasses.replace(tiny_clip.folders_in(tmp_path), cache=folders.cache)
    tiny_clip.train_tiny(archive, "soda", (*MODES[mode], "optimiser.epochs=4"), "watched", own)
    found = load_file(own.artifacts / "watched" / "weights.safetensors")
    changed = {name.partition(".")[0] for name, value in found.items() if not torch.equal(value, kept[name])}
    assert changed == {"text"}


def test_label_prompts_are_built_for_training_rows_alone(
    archive: ItemArchive, few: ItemArchive, tmp_path: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acceptance test 3: a spy on every way from labels to a prompt."""
    built: list[int] = []
    told: list[tuple[str, ...]] = []
    make, tell = label_prompts.TrainingPrompts.__init__, label_prompts.label_sentences

    def spied_make(
        self: label_prompts.TrainingPrompts,
        backbone: Backbone,
        names: Sequence[str],
        labels: torch.Tensor,
        *rest: object,
    ) -> None:
        built.append(len(labels))
        make(self, backbone, names, labels, *rest)  # type: ignore[arg-type]  # passed on as they came

    def spied_tell(names: Sequence[str], form: str) -> list[str]:
        told.append(tuple(names))
        return tell(names, form)

    monkeypatch.setattr(label_prompts.TrainingPrompts, "__init__", spied_make)
    for module in (label_prompts, soda):
        monkeypatch.setattr(module, "label_sentences", spied_tell)
    own = dataclasses.replace(tiny_clip.folders_in(tmp_path), cache=folders.cache)
    manifest = tiny_clip.train_tiny(archive, "soda", SMALL, "spied", own)
    in_training = {tuple(sorted(item.labels)) for item in archive.select(("train",))}
    assert built == [manifest.data["train"]]
    assert {tuple(sorted(names)) for names in told} <= in_training
    told.clear()
    served = load_hasher(own.artifacts / "spied", BITS, "cpu")
    evaluate_codes(encode_codes(served, few))
    assert built == [manifest.data["train"]]
    assert told == []


def test_codes_are_the_same_alone_and_in_any_batch_and_order(
    hasher: KeywordHasher, artifact: Path, pictures: list[Image]
) -> None:
    """Acceptance test 4, with and without a cache."""
    bare = load_hasher(artifact, BITS, "cpu")
    words = [hasher.keywords[0], f"{hasher.keywords[2]}, {hasher.keywords[1]}"]
    for name, inputs in (("encode_images", pictures), ("encode_texts", TEXTS), ("encode_keywords", words)):
        together = getattr(hasher, name)(inputs)
        assert same(together, joined([getattr(bare, name)([one]) for one in inputs]))
        backwards = getattr(bare, name)(inputs[::-1])
        assert np.array_equal(together.margins, backwards.margins[::-1])


def test_lone_encoders_accept_no_other_modality(hasher: KeywordHasher, pictures: list[Image]) -> None:
    """Acceptance test 5."""
    assert hasher.modalities == {Modality.IMAGE, Modality.TEXT}
    for encode, inputs, others in (
        (hasher.encode_images, pictures, TEXTS),
        (hasher.encode_texts, TEXTS, pictures),
        (hasher.encode_images, pictures, np.ones((4, 29))),
    ):
        with pytest.raises(TypeError):
            encode(inputs, others)  # type: ignore[operator]
    with pytest.raises(ModalityError):
        hasher.encode_pairs(pictures, TEXTS)
    with pytest.raises((AttributeError, TypeError)):
        hasher.encode_images(TEXTS)  # type: ignore[arg-type]
    with pytest.raises((AttributeError, TypeError)):
        hasher.encode_texts(pictures)  # type: ignore[arg-type]


def test_labels_reach_no_code(hasher: KeywordHasher, codes: CodeSet, few: ItemArchive) -> None:
    """Permuted labels change what is relevant, and no bit."""
    other = ItemArchive.open(few.path)
    items = few.items
    other.items = tuple(dataclasses.replace(item, labels=items[row - 7].labels) for row, item in enumerate(items))
    found = encode_codes(hasher, other)
    for side in ("queries", "database", "query_margins", "database_margins"):
        for modality in (Modality.IMAGE, Modality.TEXT):
            assert np.array_equal(getattr(found, side)[modality], getattr(codes, side)[modality])
    assert not np.array_equal(found.query_labels, codes.query_labels)


def test_the_artifact_is_whole_and_its_card_says_what_it_is(artifact: Path) -> None:
    assert verify_artifact(artifact, "cpu").lengths == (16, 64)
    card = (artifact / "card.md").read_text()
    assert "SODA-style" in card
    assert "not a reproduction" in card


def test_keywords_are_a_set_of_classes(hasher: KeywordHasher) -> None:
    one, other = hasher.keywords[3], hasher.keywords[5]
    asked = [f"{one}, {other}", f"{other.upper()} ,{one},", f"{one},{one.replace('_', ' ')}", one]
    batch = hasher.encode_keywords(asked)
    assert batch.codes.shape == (4, BITS // 8)
    assert batch.truncated_tokens.tolist() == [0, 0, 0, 0]
    assert np.array_equal(batch.margins[0], batch.margins[1])
    assert np.array_equal(batch.margins[2], batch.margins[3])
    assert not np.array_equal(batch.margins[0], batch.margins[3])
    assert hasher.encode_keywords([]).codes.shape == (0, BITS // 8)


def test_an_unknown_keyword_is_named_beside_those_that_are_known(hasher: KeywordHasher) -> None:
    with pytest.raises(KeywordError) as error:
        hasher.encode_keywords([f"{hasher.keywords[0]}, unicorn, griffin"])
    assert "found 'unicorn', 'griffin'; known: " in str(error.value)
    assert all(name in str(error.value) for name in hasher.keywords)


@pytest.mark.parametrize("text", ["", " , "])
def test_no_keyword_is_an_error_too(text: str) -> None:
    with pytest.raises(KeywordError, match="found none; known: dog, plant_life"):
        parse_keywords(text, ("dog", "plant_life"))


def test_names_are_found_however_they_are_written() -> None:
    known = ("dog", "plant_life", "x-ray")
    assert parse_keywords("X ray, Plant-Life,  dog", known) == known
    assert parse_keywords("plant life", known) == ("plant_life",)


def test_keyword_queries_are_a_protocol_of_their_own(hasher: KeywordHasher, codes: CodeSet, few: ItemArchive) -> None:
    asked = keyword_codes(hasher, codes, few.info.class_names)
    assert asked.protocol is Protocol.KEYWORDS
    assert list(asked.directions) == ["keywords_to_image"]
    assert np.array_equal(asked.database[Modality.IMAGE], codes.database[Modality.IMAGE])
    words = ", ".join(name for name, on in zip(few.info.class_names, asked.query_labels[0], strict=True) if on)
    assert np.array_equal(asked.queries[Modality.TEXT][0], hasher.encode_keywords([words]).codes[0])
    result, lone = evaluate_codes(asked), evaluate_codes(codes)
    shown = as_json([lone, result])
    assert set(shown) == {"lone", "keywords"}
    assert shown["keywords"]["keywords_to_image"][str(BITS)]["masks"] == {
        "query": ["true labels"],
        "database": ["image"],
    }
    assert not any("keywords" in direction for direction in shown["lone"])
    headings, [row] = as_table([result])
    assert row[headings.index("query saw")] == "true labels"


def test_a_class_whose_name_holds_a_comma_is_not_asked_for(
    hasher: KeywordHasher, codes: CodeSet, few: ItemArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    encode = hasher.encode_keywords

    def heard(keywords: Sequence[str]) -> EncodedBatch:
        asked.extend(keywords)
        return encode(keywords)

    names = ["red, white", *few.info.class_names[1:]]
    monkeypatch.setattr(type(hasher), "keywords", tuple(names))
    monkeypatch.setattr(hasher, "encode_keywords", heard)
    keyword_codes(hasher, codes, names)
    assert asked
    assert not any("white" in words for words in asked)


@pytest.mark.parametrize("override", ["config.keywords=false", "config.teacher=false"])
def test_a_model_without_a_label_head_refuses_keywords(
    archive: ItemArchive, folders: Folders, tmp_path: Path, override: str
) -> None:
    own = dataclasses.replace(tiny_clip.folders_in(tmp_path), cache=folders.cache)
    tiny_clip.train_tiny(archive, "soda", (*SMALL, override), "bare", own)
    served = load_hasher(own.artifacts / "bare", BITS, "cpu")
    assert served.keywords == ()
    with pytest.raises(ModalityError, match="expected a model that takes keywords"):
        served.encode_keywords(["dog"])
    assert served.encode_texts(TEXTS).codes.shape == (4, BITS // 8)


def test_no_serving_function_has_an_argument_for_labels() -> None:
    """Acceptance test 5, on the network: one modality's tensors and a length."""
    arguments = {
        "read_images": ["inputs"],
        "read_texts": ["inputs", "tokens"],
        "image_logits": ["vectors", "bits"],
        "text_logits": ["vectors", "bits"],
    }
    for name, expected in arguments.items():
        assert list(inspect.signature(getattr(soda.Network, name)).parameters) == ["self", *expected]


def test_a_benchmark_recipe_trains_and_serves_scaled_down(
    archive: ItemArchive, folders: Folders, tmp_path: Path
) -> None:
    own = dataclasses.replace(tiny_clip.folders_in(tmp_path), cache=folders.cache)
    tiny_clip.train_tiny(archive, "soda-mirflickr25k", SMALL, "scaled", own)
    served = load_hasher(own.artifacts / "scaled", BITS, "cpu")
    assert served.encode_keywords([served.keywords[0]]).codes.shape == (1, BITS // 8)


@pytest.mark.parametrize("name", ["soda", "soda-tuned", "soda-mirflickr25k", "soda-nuswide", "soda-coco"])
def test_the_shipped_recipes_are_of_the_specification(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.config.bits == (16, 32, 64, 128)
    assert (recipe.config.label_prompt, recipe.config.image_rate) == ("joined", 0.0)
    weights = (recipe.config.w_g, recipe.config.w_q, recipe.config.w_b)
    assert (weights == (0.1, 0.1, 0.01)) == (name != "soda")  # whose weights a sweep found
    assert bool(recipe.config.tuned_blocks) == (name == "soda-tuned")
