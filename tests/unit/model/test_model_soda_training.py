"""Trainings of SODA on features of a tiny CLIP: acceptance tests 7 to 10, its stages and rates, and every option."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tiny_clip
import torch
from numpy.typing import NDArray
from tiny_soda import EVERY_TERM, NAMES, SMALL, objective, rows
from torch import Tensor
from torch.nn.functional import one_hot

from encoders.protocol import Backbone
from encoders.registry import load_backbone
from model.errors import RecipeError
from model.evaluation.metrics import distance_histograms, expected_average_precision
from model.losses import share_label
from model.methods.protocol import Features
from model.training.checkpoint import TrainingState
from model.training.recipe import Recipe, load_recipe
from model.training.run import EpochReport, Trained, new_network, stages_of, train
from model.training.validation import validate

LIKELIHOOD = ("config.w_x=1", "config.w_n=0.1", "config.contrast=0")
OPTIONS = [
    *(f"config.label_prompt={form}" for form in ("joined", "image_containing", "bare", "per_class", "learned")),
    "config.head=linear",
    *(f"config.theta={theta}" for theta in ("len", "half", "cos")),
    *(f"config.similarity={similarity}" for similarity in ("binary", "jaccard")),
    *(f"config.gap_at={place}" for place in ("code", "logit", "feature")),
    *(f"config.bank={bank}" for bank in ("real", "binary", "both")),
    "config.bank_rows=10",
    "config.teacher=false",
    "config.shared_label_head=true",
    "config.init_text_from_label=false",
    "config.keywords=false",
    "config.image_rate=0.1",
    "config.label_bank=true",
    "config.keep_unlabelled=true",
    "config.max_positive_weight=8",
    "config.auxiliary_bits=24",
]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(tiny_clip.BACKBONE, "cpu")


def without_some_labels(features: Features) -> Features:
    assert features.labels is not None
    kept = (torch.arange(len(features)) % 4 > 0).float()
    return dataclasses.replace(features, labels=features.labels * kept[:, None])


def run(
    folder: Path, recipe: Recipe, backbone: Backbone, features: Features | None = None, other: Features | None = None
) -> tuple[Trained, list[EpochReport]]:
    reports: list[EpochReport] = []
    trained = train(
        recipe,
        folder,
        new_network(recipe, backbone, NAMES),
        rows(48, 0) if features is None else features,
        rows(20, 1) if other is None else other,
        identity={},
        device=torch.device("cpu"),
        report=reports.append,
    )
    return trained, reports


def precision(codes: NDArray[np.uint8], labels: Tensor, database: NDArray[np.int64]) -> float:
    """Tie-aware mAP of the first half of the codes against the others, in an order."""
    queries = slice(0, len(codes) // 2)
    relevant = share_label(labels[queries], labels[database]).numpy()
    return float(
        np.nanmean(expected_average_precision(*distance_histograms(codes[queries], codes[database], relevant)))
    )


@pytest.mark.parametrize("overrides", [(), LIKELIHOOD])
def test_sixty_four_pairs_are_learned_by_heart(tmp_path: Path, backbone: Backbone, overrides: tuple[str, ...]) -> None:
    """Acceptance test 7."""
    few = rows(64, 5, noise=1.0)
    values = ["config.dropout=0", "config.bits=[32]", "selection.bits=32", "selection.every=60", "optimiser.epochs=60"]
    recipe = load_recipe("soda", [*SMALL, *values, "optimiser.rate=3e-3", *overrides])
    trained, _ = run(tmp_path, recipe, backbone, few, few)
    assert validate(trained.network, few, few, 32).seen > 0.98


def test_scores_of_random_and_perfect_codes() -> None:
    """Acceptance test 8."""
    labels = one_hot(torch.randint(8, (600,), generator=torch.Generator().manual_seed(0)), 8).float()
    random = np.random.default_rng(0)
    codes = random.integers(0, 256, (600, 4), dtype=np.uint8)
    chance = float(share_label(labels, labels).float().mean())
    order = np.arange(300, 600)
    assert precision(codes, labels, order) == pytest.approx(chance, abs=0.02)
    perfect = np.packbits(np.repeat(labels.numpy().astype(np.uint8), 4, axis=1), axis=1, bitorder="little")
    assert precision(perfect, labels, order) == pytest.approx(1)
    few = codes[:, :1]  # most distances are tied
    shuffled = random.permutation(order)
    assert precision(few, labels, shuffled) == pytest.approx(precision(few, labels, order), abs=1e-9)


def test_the_same_seed_gives_the_same_codes(tmp_path: Path, backbone: Backbone) -> None:
    """Acceptance test 9."""
    recipe = load_recipe("soda", SMALL)
    one, other = (run(tmp_path / name, recipe, backbone)[0].network.state_dict() for name in ("a", "b"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_with_shuffled_labels_retrieval_falls_to_chance(tmp_path: Path, backbone: Backbone) -> None:
    """Acceptance test 10: relevance that content cannot tell is not found, so no label reached a code."""
    both = rows(600, 0)
    assert both.labels is not None
    shuffled = both.labels[torch.randperm(600, generator=torch.Generator().manual_seed(1))]
    own = [dataclasses.replace(both, labels=labels) for labels in (both.labels, shuffled)]
    recipe = load_recipe("soda", [*SMALL, "optimiser.batch=100", "optimiser.epochs=12", "selection.every=12"])
    found = []
    for number, features in enumerate(own):
        parts = features.part(slice(0, 400)), features.part(slice(400, None))
        trained, _ = run(tmp_path / str(number), recipe, backbone, *parts)
        found.append(validate(trained.network, parts[1], parts[0], 64))
    chance = float(share_label(shuffled, shuffled).float().mean())
    assert min(found[0].seen, found[0].unseen) > chance + 0.3
    assert max(found[1].seen, found[1].unseen) < chance + 0.03


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_trains(tmp_path: Path, backbone: Backbone, option: str) -> None:
    recipe = load_recipe("soda", [*SMALL, *EVERY_TERM, option])
    trained, reports = run(tmp_path, recipe, backbone, without_some_labels(rows(48, 0)))
    assert all(np.isfinite(value) for report in reports for value in report.losses.values())
    assert trained.best_score is not None
    assert trained.best_score > 0


def test_only_epochs_of_the_student_are_selected_from(tmp_path: Path, backbone: Backbone) -> None:
    trained, reports = run(tmp_path, load_recipe("soda", [*SMALL, "optimiser.epochs=5"]), backbone)
    assert [report.validation is None for report in reports] == [True, True, False, False, False]
    assert trained.best_epoch is not None
    assert trained.best_epoch > 2


@pytest.mark.parametrize(
    ("share", "epochs", "expected"), [(0.5, 30, (15, 15)), (0.3, 10, (3, 7)), (0.9, 2, (1, 1)), (0.01, 9, (1, 8))]
)
def test_the_stages_share_the_epochs(backbone: Backbone, share: float, epochs: int, expected: tuple[int, int]) -> None:
    made, _ = objective(backbone, [f"config.teacher_share={share}"])
    assert made.stages(epochs) == expected
    assert [(one.number, one.first, one.last) for one in stages_of(made, epochs)] == [
        (0, 1, expected[0]),
        (1, expected[0] + 1, epochs),
    ]


def test_without_a_teacher_there_is_one_stage(backbone: Backbone) -> None:
    made, network = objective(backbone, ["config.teacher=false"])
    assert made.stages(7) == (7,)
    assert network.label is None
    assert not hasattr(made, "prompts")


def test_one_epoch_is_too_few(tmp_path: Path, backbone: Backbone) -> None:
    with pytest.raises(RecipeError, match="expected at least 2, one for each stage, found 1"):
        run(tmp_path, load_recipe("soda", [*SMALL, "optimiser.epochs=1"]), backbone)
    assert not list(tmp_path.rglob("recipe.toml"))  # the name is still free


def test_the_rate_rises_and_decays_in_each_stage(tmp_path: Path, backbone: Backbone) -> None:
    _, reports = run(tmp_path, load_recipe("soda", [*SMALL, "optimiser.epochs=8"]), backbone)
    rates = [report.rate for report in reports]
    assert rates[:4] == rates[4:] == sorted(rates[:4], reverse=True)


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_run_that_was_killed_in_either_stage_ends_like_one_that_was_not(
    tmp_path: Path, backbone: Backbone, killed_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("soda", [*SMALL, *EVERY_TERM, "config.label_bank=true", "config.keywords=false"])
    expected, _ = run(tmp_path / "whole", recipe, backbone)
    save = TrainingState.save

    class Killed(BaseException):
        """As final as a signal."""

    def save_then_die(self: TrainingState, path: Path) -> None:
        save(self, path)
        if self.progress.epoch == killed_after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "save", save_then_die)
        with pytest.raises(Killed):
            run(tmp_path / "cut", recipe, backbone)
    resumed, reports = run(tmp_path / "cut", recipe, backbone)
    assert len(reports) == 4 - killed_after
    found = expected.network.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in resumed.network.state_dict().items())


def test_without_labels_image_and_text_learn_jointly(tmp_path: Path, backbone: Backbone) -> None:
    bare = [dataclasses.replace(rows(count, seed), labels=None) for count, seed in ((48, 0), (20, 1))]
    recipe = load_recipe("soda", [*SMALL, "config.contrast=1", "optimiser.epochs=12"])
    trained, reports = run(tmp_path, recipe, backbone, *bare)
    assert reports[-1].losses["contrast"] < reports[0].losses["contrast"]
    assert all(report.validation is not None for report in reports)
    assert trained.best_score is not None
