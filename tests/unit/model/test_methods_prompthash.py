"""PromptHash-U: each of its parts trains alone, no code sees a label or the other side, and a killed run ends alike."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from model.artifact import load_hasher, verify_artifact
from model.errors import RecipeError
from model.evaluation.codes import CodeSet, encode_codes
from model.evaluation.results import evaluate_codes
from model.hasher import Hasher, Modality
from model.images import decode_image
from model.items import Item, ItemArchive
from model.methods.prompthash import Config
from model.training.checkpoint import read_tensors
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[3]
FIXTURE = ROOT / "tests" / "fixtures" / "openclipart-200.zip"
TINY = [  # every part is set: what the shipped recipe has on is no matter here
    "backbone=clip:crossbit-tiny:random",
    "config.taap=true",
    "config.agsf=true",
    "config.pacl=true",
    "config.predicted_prompt=false",
    "config.info_nce=0.1",
    "config.local=0.0",
    "config.inter=0.0",
    "config.intra=0.0",
    "config.quantisation=0.1",
    "config.reconstruction=0.0",
    "config.teacher=0.0",
    "config.tuned_blocks=0",
    "config.image_views=1",
    "config.bits=[16]",
    "config.auxiliary_bits=24",
    "config.width=16",
    "config.hidden=16",
    "config.fusion_hidden=16",
    "config.prompt_layers=1",
    "config.bank_rows=50",
    "optimiser.batch=50",
    "optimiser.epochs=1",
    "selection.bits=16",
]
BARE = ["config.taap=false", "config.agsf=false", "config.pacl=false"]
PARTS = {  # what a part is switched on by, and a term that it adds
    "none": ([], "info_nce"),
    "taap": (["config.taap=true"], "info_nce"),
    "agsf": (["config.agsf=true"], "info_nce"),
    "pacl": (["config.pacl=true"], "contrast"),
    "predicted_prompt": (["config.predicted_prompt=true"], "info_nce"),
    "teacher": (["config.teacher=1.0", "config.agsf=true"], "distillation"),
    "local": (["config.local=1.0"], "local"),
    "reconstruction": (["config.reconstruction=1.0"], "reconstruction"),
    "inter": (["config.inter=1.0"], "inter"),
    "intra": (["config.intra=1.0"], "intra"),
    "tuned_blocks": (["config.tuned_blocks=1", "config.image_views=2"], "info_nce"),
    "tuned_blocks and taap": (["config.tuned_blocks=1", "config.taap=true"], "info_nce"),
    "bertadam": (["optimiser.algorithm=bertadam"], "info_nce"),
    "all that goes with frozen towers": (
        [
            "config.taap=true",
            "config.agsf=true",
            "config.pacl=true",
            "config.predicted_prompt=true",
            "config.teacher=1.0",
            "config.local=1.0",
            "config.reconstruction=1.0",
            "config.inter=1.0",
            "config.intra=1.0",
        ],
        "distillation",
    ),
}
TEXTS = ["red apple", "flag", "a dog in the snow and another one behind it, seen from the left " * 2, "tree"]
RUN = """
import sys
from pathlib import Path
from model.items import ItemArchive
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import load_recipe
home = Path(sys.argv[1])
folders = Folders(home / "runs", home / "artifacts", home / "cache")
train_artifact(load_recipe("prompthash", sys.argv[3:]), ItemArchive.open(Path(sys.argv[2])), "x", folders, device="cpu")
"""


def with_items(archive: ItemArchive, items: Iterable[Item]) -> ItemArchive:
    other = ItemArchive.open(archive.path)
    other.items = tuple(items)
    return other


def folders_in(home: Path) -> Folders:
    return Folders(home / "runs", home / "artifacts", home / "cache")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """One cache of features for every training here."""
    return folders_in(tmp_path_factory.mktemp("prompthash"))


@pytest.fixture(scope="module")
def unlabelled(archive: ItemArchive) -> ItemArchive:
    bare = ItemArchive.open(archive.path)
    bare.info = dataclasses.replace(archive.info, class_names=())
    bare.items = tuple(dataclasses.replace(item, labels=()) for item in archive.items)
    return bare


@pytest.fixture(scope="module", params=["frozen", "tuned", "predicted"])
def folder(request: pytest.FixtureRequest, archive: ItemArchive, folders: Folders) -> Path:
    """An artifact with the parts that look at most, where a code could learn too much."""
    kind = str(request.param)
    parts = {
        "frozen": ["config.teacher=1.0", "config.local=1.0"],
        "tuned": ["config.tuned_blocks=1"],
        "predicted": ["config.predicted_prompt=true"],
    }
    recipe = load_recipe("prompthash", [*TINY, *parts[kind], "optimiser.epochs=2"])
    train_artifact(recipe, archive, kind, folders, device="cpu")
    return folders.artifacts / kind


@pytest.fixture(scope="module")
def hasher(folder: Path) -> Hasher:
    return load_hasher(folder, 16, "cpu")


@pytest.fixture(scope="module")
def few(archive: ItemArchive) -> ItemArchive:
    """Some queries and some of the database."""
    return with_items(archive, [*archive.select(("query",))[:10], *archive.database()[::6]])


@pytest.fixture(scope="module")
def codes(hasher: Hasher, few: ItemArchive) -> CodeSet:
    return encode_codes(hasher, few)


@pytest.fixture(scope="module")
def images(archive: ItemArchive) -> list[Image.Image]:
    return [decode_image(archive.read_image(item)) for item in archive.items[:5]]


def losses(folders: Folders, name: str) -> dict[str, float]:
    lines = (folders.runs / name / "metrics.jsonl").read_text().splitlines()
    return dict(json.loads(lines[-1])["losses"])


def slug(part: str) -> str:
    return part.replace(" ", "-").replace("_", "-").replace(",", "")


@pytest.mark.parametrize("part", PARTS)
def test_each_part_alone_trains_and_is_served(archive: ItemArchive, folders: Folders, part: str) -> None:
    switches, term = PARTS[part]
    recipe = load_recipe("prompthash", [*TINY, *BARE, *switches])
    manifest = train_artifact(recipe, archive, slug(part), folders, device="cpu")
    terms = losses(folders, slug(part))
    assert term in terms
    assert all(np.isfinite(value) for value in terms.values())
    assert manifest.training["best_epoch"] == 1
    assert verify_artifact(folders.artifacts / slug(part), "cpu").lengths == (16,)
    served = load_hasher(folders.artifacts / slug(part), 16, "cpu")
    assert served.encode_texts(TEXTS).codes.shape == (4, 2)
    assert served.encode_images([Image.new("RGB", (40, 50), "red")]).codes.shape == (1, 2)


def test_what_is_off_leaves_no_term(folders: Folders, archive: ItemArchive) -> None:
    recipe = load_recipe("prompthash", [*TINY, *BARE, "config.info_nce=0.0"])
    train_artifact(recipe, archive, "off", folders, device="cpu")
    assert set(losses(folders, "off")) == {"quantisation"}


@pytest.mark.parametrize("parts", [[], BARE, ["config.tuned_blocks=1"]])
def test_pairs_without_labels_train(
    unlabelled: ItemArchive, tmp_path: Path, folders: Folders, parts: list[str]
) -> None:
    own = dataclasses.replace(folders_in(tmp_path), cache=folders.cache)
    recipe = load_recipe("prompthash", [*TINY, *parts])
    manifest = train_artifact(recipe, unlabelled, "pairs", own, device="cpu")
    assert manifest.training["supervision"] == "image-text pairs alone, no labels"
    assert load_hasher(own.artifacts / "pairs", 16, "cpu").encode_texts(["a flag"]).codes.shape == (1, 2)


@pytest.mark.parametrize("part", ["config.inter=1.0", "config.intra=1.0", "config.local=1.0", "config.teacher=1.0"])
def test_parts_that_need_labels_are_left_out_without_them(
    unlabelled: ItemArchive, tmp_path: Path, folders: Folders, part: str
) -> None:
    own = dataclasses.replace(folders_in(tmp_path), cache=folders.cache)
    recipe = load_recipe("prompthash", [*TINY, "config.taap=false", part])
    train_artifact(recipe, unlabelled, "pairs", own, device="cpu")
    assert set(losses(own, "pairs")) <= {"quantisation", "contrast", "info_nce"}


def test_without_labels_nothing_is_predicted(unlabelled: ItemArchive, tmp_path: Path, folders: Folders) -> None:
    own = dataclasses.replace(folders_in(tmp_path), cache=folders.cache)
    recipe = load_recipe("prompthash", [*TINY, "config.taap=false", "config.predicted_prompt=true"])
    manifest = train_artifact(recipe, unlabelled, "pairs", own, device="cpu")
    weights = load_file(own.artifacts / manifest.name / "weights.safetensors")
    assert not [name for name in weights if "classes" in name or ("class_bank" in name and len(weights[name]))]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["config.bits=[12]", "selection.bits=12"], "bits"),
        (["config.bits=[]"], "bits"),
        (["config.bits=[16, 16]"], "bits"),
        (["config.auxiliary_bits=16"], "auxiliary_bits"),
        (["config.dropout=1.0"], "dropout"),
        (["config.bank_rows=0"], "bank_rows"),
        (["config.image_views=0"], "image_views"),
        (["config.image_views=2"], "image_views"),
        (["config.tuned_blocks=-1"], "tuned_blocks"),
        (["config.prompt_layers=-1"], "prompt_layers"),
        (["config.predicted_prompt=true", "config.tuned_blocks=1"], "predicted_prompt"),
        (["config.reconstruction=1.0", "config.auxiliary_bits=0"], "reconstruction"),
        (["config.teacher=1.0", "config.agsf=false"], "teacher"),
        (["config.teacher=1.0", "config.tuned_blocks=1"], "teacher"),
        (["config.fusion_heads=3"], "fusion_heads"),
        (["selection.bits=32"], "selection.bits"),
        (["config.taaap=true"], "taaap"),
        (["config.taap=1"], "config.taap"),
    ],
)
def test_values_that_contradict_each_other_are_refused_by_name(overrides: list[str], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        load_recipe("prompthash", [*TINY, *overrides])


def test_the_shipped_recipe_is_complete() -> None:
    recipe = load_recipe("prompthash")
    assert isinstance(recipe.config, Config)
    assert recipe.selection.bits in recipe.config.bits


def test_codes_are_the_same_alone_and_in_any_batch_in_any_order(hasher: Hasher, images: list[Image.Image]) -> None:
    """Acceptance test (a)."""
    for encode, inputs in ((hasher.encode_images, images), (hasher.encode_texts, TEXTS * 6)):
        together = encode(inputs)  # type: ignore[operator]
        backwards = encode(inputs[::-1])  # type: ignore[operator]
        assert np.array_equal(together.codes, backwards.codes[::-1])
        assert np.array_equal(together.margins, backwards.margins[::-1])
        for row, value in enumerate(inputs[:5]):
            alone = encode([value])  # type: ignore[operator]
            assert np.array_equal(alone.codes[0], together.codes[row])
            assert np.array_equal(alone.margins[0], together.margins[row])


def test_the_code_of_an_image_does_not_change_with_its_caption(
    hasher: Hasher, codes: CodeSet, few: ItemArchive
) -> None:
    """Acceptance test (b)."""
    items = few.items
    exchanged = (dataclasses.replace(item, texts=items[row - 7].texts) for row, item in enumerate(items))
    found = encode_codes(hasher, with_items(few, exchanged))
    assert found.query_ids == codes.query_ids
    for side, expected in ((found.queries, codes.queries), (found.database, codes.database)):
        assert np.array_equal(side[Modality.IMAGE], expected[Modality.IMAGE])
        assert not np.array_equal(side[Modality.TEXT], expected[Modality.TEXT])


def test_the_code_of_a_text_does_not_change_with_its_image(hasher: Hasher, codes: CodeSet, few: ItemArchive) -> None:
    """Acceptance test (b), the converse."""
    items = few.items
    exchanged = (dataclasses.replace(item, image=items[row - 7].image) for row, item in enumerate(items))
    found = encode_codes(hasher, with_items(few, exchanged))
    assert found.database_ids == codes.database_ids
    for side, expected in ((found.queries, codes.queries), (found.database, codes.database)):
        assert np.array_equal(side[Modality.TEXT], expected[Modality.TEXT])
        assert not np.array_equal(side[Modality.IMAGE], expected[Modality.IMAGE])


def test_labels_do_not_reach_the_codes(hasher: Hasher, codes: CodeSet, few: ItemArchive) -> None:
    """Acceptance test (c): with labels permuted among the items, relevance changes and the codes do not."""
    items = few.items
    permuted = (dataclasses.replace(item, labels=items[row - 7].labels) for row, item in enumerate(items))
    found = encode_codes(hasher, with_items(few, permuted))
    for side, expected in ((found.queries, codes.queries), (found.database, codes.database)):
        for modality in (Modality.IMAGE, Modality.TEXT):
            assert np.array_equal(side[modality], expected[modality])
    assert evaluate_codes(found).mean != evaluate_codes(codes).mean


def test_no_argument_of_the_hasher_could_hold_a_label(hasher: Hasher, images: list[Image.Image]) -> None:
    for encode, inputs in ((hasher.encode_images, images[:1]), (hasher.encode_texts, TEXTS[:1])):
        with pytest.raises(TypeError):
            encode(inputs, np.ones((1, 29)))  # type: ignore[operator]


def test_codes_are_the_same_with_and_without_the_cache(
    hasher: Hasher, folder: Path, images: list[Image.Image], tmp_path: Path
) -> None:
    for _ in range(2):  # the second reads what the first wrote
        cached = load_hasher(folder, 16, "cpu", tmp_path)
        assert np.array_equal(cached.encode_images(images).margins, hasher.encode_images(images).margins)
        assert np.array_equal(cached.encode_texts(TEXTS).margins, hasher.encode_texts(TEXTS).margins)


def killed_recipe() -> list[str]:
    """Every kind of state that a checkpoint holds: banks, decoders, out-of-fold guesses, a second optimiser group."""
    parts = ["config.predicted_prompt=true", "config.teacher=1.0", "config.reconstruction=1.0", "config.inter=1.0"]
    return [*TINY, *parts, "optimiser.algorithm=bertadam", "optimiser.epochs=8"]


def run(home: Path) -> subprocess.Popen[bytes]:
    """The training in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-c", RUN, str(home), str(FIXTURE), *killed_recipe()]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment)


@pytest.mark.slow
def test_after_a_kill_the_same_command_ends_like_one_that_was_not_killed(
    archive: ItemArchive, tmp_path: Path, folders: Folders
) -> None:
    recipe: Recipe = load_recipe("prompthash", killed_recipe())
    whole = dataclasses.replace(folders_in(tmp_path / "whole"), cache=folders.cache)
    train_artifact(recipe, archive, "x", whole, device="cpu")
    cut = folders_in(tmp_path / "cut")
    cut.cache.parent.mkdir(parents=True)
    cut.cache.symlink_to(folders.cache)  # what the towers make is not what is tested
    checkpoint = cut.runs / "x" / "checkpoint" / "state.safetensors"
    first = run(tmp_path / "cut")
    deadline = time.monotonic() + 60
    while not checkpoint.is_file() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    assert checkpoint.is_file()
    assert not list(cut.artifacts.glob("*/*"))
    progress = json.loads(read_tensors(checkpoint)[1]["progress"])
    assert 0 < progress["epoch"] < recipe.optimiser.epochs
    train_artifact(recipe, archive, "x", cut, device="cpu")
    found, expected = (load_file(side.artifacts / "x" / "weights.safetensors") for side in (cut, whole))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.array_equal(found[name].numpy(), value.numpy()), name
    weights = [(side.artifacts / "x" / "weights.safetensors").read_bytes() for side in (cut, whole)]
    assert weights[0] == weights[1]
