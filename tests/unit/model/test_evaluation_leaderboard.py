"""The leaderboard: rows over seeds, merging, ranking, tests between methods, and the page of them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_home import make_archive

from model.errors import ArchiveError, RecipeError
from model.evaluation import difference
from model.evaluation.compare import Outcome, Score, encode_rate, measure_label_only, read_outcome
from model.evaluation.difference import MASKS, Difference, Estimate, differences_of, paired_bootstrap
from model.evaluation.leaderboard import (
    CONTROL,
    Row,
    headline_bits,
    merge,
    neighbours,
    p_value,
    ranked,
    read_rows,
    rows_of,
    write_rows,
)
from model.evaluation.leaderboard_page import board_table, caveat, difference_table, leaderboard_page, write_board
from model.fake import FakeHasher
from model.items import ItemArchive
from model.training.contest import competitors, contest_recipe, entry_name

QUERIES = 60


def outcome(level: float, seed: int = 0, bits: int = 64, *, noise: float = 0.05) -> Outcome:
    """Queries whose average precision scatters around a level."""
    precision = np.clip(np.random.default_rng(seed).normal(level, noise, QUERIES), 0, 1)
    scores = [
        Score("lone", direction, level, level / 2, precision.tolist(), (precision / 2).tolist())
        for direction in CROSSING
    ]
    return Outcome(bits, seed, train_s=10.0 + seed, encode_per_s=20.0, scores=scores)


CROSSING = ("image_to_text", "text_to_image")
few = settings(max_examples=25)
Precision = Sequence[float | None]


def measured(values: Precision, seed: int = 0, bits: int = 64, *, back: Precision | None = None) -> Outcome:
    """Queries of known average precision over either database; ``back`` from text to image, the same if left out."""
    sides = zip(CROSSING, (values, values if back is None else back), strict=True)
    scores = [Score("lone", direction, 0.5, 0.5, list(side), list(side)) for direction, side in sides]
    return Outcome(bits, seed, train_s=1.0, encode_per_s=1.0, scores=scores)


def estimate(one: Sequence[Outcome], other: Sequence[Outcome], database: str = "all") -> Estimate:
    found = paired_bootstrap(one, other, database)
    assert found is not None
    return found


def level_at(level: float) -> list[Outcome]:
    return [outcome(level, seed, bits) for seed in range(3) for bits in (16, 64)]


def differences(*levels: tuple[str, float]) -> list[Difference]:
    """Of methods at these levels, against ``baseline`` at 0.5."""
    outcomes = {"baseline": level_at(0.5), **{method: level_at(level) for method, level in levels}}
    return differences_of("openclipart", "title", "baseline", outcomes)


def board(method: str = "baseline", level: float = 0.6, data: str = "openclipart") -> list[Row]:
    return rows_of(data, "title", method, [outcome(level, seed) for seed in range(3)])


def test_a_row_has_exactly_the_documented_fields() -> None:
    expected = "data captions method competes protocol database direction bits seeds map_expected_mean"
    assert [field.name for field in fields(Row)] == [*expected.split(), "map_expected_std", "train_s", "encode_per_s"]


def test_rows_hold_mean_and_sample_deviation_over_seeds() -> None:
    rows = rows_of("d", "title", "m", [outcome(level, seed) for seed, level in enumerate((0.5, 0.6, 0.7))])
    row = next(row for row in rows if (row.direction, row.database) == ("image_to_text", "all"))
    assert (row.seeds, row.map_expected_mean, row.map_expected_std) == (3, 0.6, 0.1)
    assert (row.train_s, row.encode_per_s, row.competes) == (11.0, 20.0, True)
    assert len(rows) == 4


def test_one_seed_has_no_deviation() -> None:
    assert {row.map_expected_std for row in rows_of("d", "title", "m", [outcome(0.5)])} == {None}


def test_data_without_an_unseen_part_has_no_unseen_rows() -> None:
    known = replace(outcome(0.5), scores=[replace(score, unseen=None) for score in outcome(0.5).scores])
    assert {row.database for row in rows_of("d", "title", "m", [known])} == {"all"}


def test_label_only_does_not_compete() -> None:
    rows = board(CONTROL, 0.99) + board()
    assert ranked(rows, 64) == ["baseline"]


def test_a_later_run_replaces_its_own_rows_and_keeps_the_others() -> None:
    rows = merge(merge([], board("itq", 0.2) + board("baseline", 0.5)), board("baseline", 0.6))
    levels = {row.method: row.map_expected_mean for row in rows if row.database == "all"}
    assert levels == {"itq": 0.2, "baseline": 0.6}
    assert len(rows) == 8


def test_other_captions_and_lengths_are_other_rows() -> None:
    full = rows_of("openclipart", "full", "baseline", [outcome(0.9)])
    short = rows_of("openclipart", "title", "baseline", [outcome(0.4, bits=16)])
    assert len(merge(board(), full + short)) == 12


def test_methods_are_ranked_by_the_lone_mean_over_the_whole_database() -> None:
    better = [replace(row, protocol="paired", map_expected_mean=0.99) for row in board("itq", 0.2)]
    assert ranked(board("itq", 0.2) + better + board("baseline", 0.5) + board("lsh", 0.1), 64) == [
        "baseline",
        "itq",
        "lsh",
    ]


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = merge([], board())
    write_rows(tmp_path / "leaderboard.json", rows)
    assert read_rows(tmp_path / "leaderboard.json", Row) == rows
    assert json.loads((tmp_path / "leaderboard.json").read_text()) == [asdict(row) for row in rows]


def test_a_first_run_finds_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "leaderboard.json", Row) == []


@pytest.mark.parametrize("kind", [Row, Difference])
@pytest.mark.parametrize("text", ["{", '[{"data": 1}]', "[3]"])
def test_a_file_that_is_no_leaderboard_is_not_overwritten(tmp_path: Path, text: str, kind: type[Row]) -> None:
    (tmp_path / "leaderboard.json").write_text(text)
    with pytest.raises(ArchiveError, match="is not a leaderboard"):
        read_rows(tmp_path / "leaderboard.json", kind)


def test_the_ranking_length_is_64_where_there_is_one() -> None:
    assert (headline_bits([16, 64, 128]), headline_bits([16, 32])) == (64, 32)


def exact_p(difference: NDArray[np.float64]) -> float:
    """All sign flips."""
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(difference))).reshape(len(difference), -1).T
    return float((np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12).mean())


def test_the_test_between_neighbours_is_the_randomisation_test() -> None:
    first, second = np.random.default_rng(1).random((2, 10))
    found = p_value([measured(first.tolist())], [measured(second.tolist())], 64)
    assert found == pytest.approx(exact_p(first - second), abs=0.02)


def test_equal_methods_do_not_differ_and_unequal_ones_do() -> None:
    assert p_value([outcome(0.5)], [outcome(0.5)], 64) == 1.0
    found = p_value([outcome(0.5, 1)], [outcome(0.7, 2)], 64)
    assert found is not None
    assert found < 0.001


def test_queries_without_relevant_items_are_left_out_of_the_test() -> None:
    one, other = (
        [replace(part, scores=[replace(s, average_precision=[None, *s.average_precision[1:]]) for s in part.scores])]
        for part in (outcome(0.5, 1), outcome(0.7, 2))
    )
    assert p_value(one, other, 64) is not None


def test_other_queries_are_not_compared() -> None:
    one = outcome(0.5)
    shorter = replace(one, scores=[replace(s, average_precision=s.average_precision[1:]) for s in one.scores])
    assert p_value([one], [shorter], 64) is None
    assert p_value([one], [], 64) is None


def test_neighbours_are_tested_in_order_of_rank() -> None:
    outcomes = {"a": [outcome(0.2, 1)], "b": [outcome(0.6, 2)], "c": [outcome(0.4, 3)]}
    rows = [row for method, found in outcomes.items() for row in rows_of("d", "title", method, found)]
    assert list(neighbours(rows, outcomes)) == [("b", "c"), ("c", "a")]


values = st.lists(st.floats(0, 1), min_size=2, max_size=12)


@few
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12))
def test_swapping_the_methods_negates_the_interval(pairs: list[tuple[float, float]]) -> None:
    one, other = ([measured(side)] for side in zip(*pairs, strict=True))
    found, swapped = estimate(one, other), estimate(other, one)
    assert (found.mean, found.by_seed) == (-swapped.mean, [-each for each in swapped.by_seed])
    assert (found.lower, found.upper) == pytest.approx((-swapped.upper, -swapped.lower), abs=2e-6)


@few
@given(values)
def test_a_method_is_exactly_as_good_as_itself(each: list[float]) -> None:
    found = estimate([measured(each)], [measured(each)])
    assert (found.mean, found.lower, found.upper, found.by_seed) == (0, 0, 0, [0])


@few
@given(values, st.floats(0.01, 0.5))
def test_a_constant_shift_is_found_whatever_the_queries_are(each: list[float], shift: float) -> None:
    found = estimate([measured([value + shift for value in each])], [measured(each)])
    assert (found.mean, found.lower, found.upper) == pytest.approx([shift] * 3, abs=2e-6)
    assert found.lower > 0


def test_the_interval_is_that_of_a_mean_of_many_queries() -> None:
    apart = np.random.default_rng(3).normal(0.02, 0.1, 500)
    found = estimate([measured((0.5 + apart).tolist())], [measured([0.5] * 500)])
    margin = 1.96 * apart.std() / np.sqrt(500)
    assert found.mean == pytest.approx(apart.mean(), abs=1e-6)
    assert (found.lower, found.upper) == pytest.approx((apart.mean() - margin, apart.mean() + margin), abs=4e-4)


def test_how_many_draws_are_held_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = ([measured(side.tolist())] for side in np.random.default_rng(1).random((2, QUERIES)))
    whole = estimate(one, other)
    monkeypatch.setattr(difference, "HELD", 7 * QUERIES)
    assert estimate(one, other) == whole


def test_a_query_without_relevant_items_in_a_direction_counts_in_the_other() -> None:
    one, other = measured([0.9, 0.5], back=[None, 0.7]), measured([0.5, 0.5], back=[None, 0.5])
    assert estimate([one], [other]).mean == pytest.approx((0.4 + 0.1) / 2)


def test_a_query_without_relevant_items_at_all_is_left_out() -> None:
    found = estimate([measured([0.9, None, 0.7])], [measured([0.5, None, 0.5])])
    assert (found.queries, found.mean) == (2, 0.3)
    assert paired_bootstrap([measured([None])], [measured([None])], "all") is None


def test_each_seed_is_paired_with_its_own() -> None:
    one = [measured([level, level], seed) for seed, level in enumerate((0.6, 0.3, 0.9))]
    other = [measured([0.5, 0.5], seed) for seed in (1, 0, 5)]
    found = estimate(one, other)
    assert (found.seeds, found.by_seed, found.mean) == (2, [0.1, -0.2], -0.05)


def test_lengths_that_one_of_them_lacks_are_left_out() -> None:
    one = [measured([0.6], bits=16), measured([0.7], bits=32), measured([0.9], bits=64)]
    found = estimate(one, [measured([0.5], bits=64), measured([0.5], bits=16)])
    assert (found.bits, found.mean) == ([16, 64], 0.25)


def test_a_seed_without_one_of_the_lengths_is_left_out() -> None:
    one = [measured([0.6], seed, bits) for seed in (0, 1) for bits in (16, 64)]
    assert estimate(one, one[:3]).seeds == 1


@pytest.mark.parametrize("other", [[], [measured([0.5] * 2, seed=9)], [measured([0.5] * 2, bits=8)], [measured([0.5])]])
def test_methods_that_were_not_measured_alike_are_not_compared(other: list[Outcome]) -> None:
    assert paired_bootstrap([measured([0.6] * 2)], other, "all") is None


def test_each_database_has_its_own_difference() -> None:
    one, other = [outcome(0.7, noise=0)], [outcome(0.5, noise=0)]
    assert (estimate(one, other).mean, estimate(one, other, "unseen").mean) == (0.2, 0.1)
    known = [replace(part, scores=[replace(s, unseen_average_precision=None) for s in part.scores]) for part in one]
    assert paired_bootstrap(known, other, "unseen") is None


def test_other_protocols_and_directions_are_compared_by_name() -> None:
    def fused(level: float) -> list[Outcome]:
        lone = measured([0.5] * 3)
        return [replace(lone, scores=[*lone.scores, Score("paired", "pair_to_pair", level, None, [level] * 3, None)])]

    found = paired_bootstrap(fused(0.8), fused(0.6), "all", MASKS[0], MASKS[0])
    assert found is not None
    assert found.mean == 0.2
    missing = paired_bootstrap(fused(0.8), level_at(0.5), "all", MASKS[0], MASKS[0])
    assert missing is None


def test_every_method_but_the_reference_is_compared_over_both_databases() -> None:
    found = {(one.method, one.database): one.verdict for one in differences(("x", 0.6), ("y", 0.3), ("z", 0.5))}
    assert found == {
        **dict.fromkeys([("x", "all"), ("x", "unseen")], "better"),
        **dict.fromkeys([("y", "all"), ("y", "unseen")], "worse"),
        **dict.fromkeys([("z", "all"), ("z", "unseen")], "no difference shown"),
    }


def of_masks(**levels: float) -> list[Outcome]:
    """Every direction at its level, the lone ones at 0.5."""
    shown = {"pair_to_pair": 0.5, "image_to_pair": 0.5, "text_to_pair": 0.5, "text_to_text": 0.5, **levels}
    paired = [Score("paired", name, level, None, [level] * 3, None) for name, level in shown.items()]
    return [replace(one, scores=[*one.scores, *paired]) for one in [measured([0.5] * 3)]]


def test_every_mask_is_compared_on_its_own() -> None:
    outcomes = {"late": of_masks(), "x": of_masks(pair_to_pair=0.7, image_to_pair=0.4)}
    found = {one.contest: one.mean for one in differences_of("d", "title", "late", outcomes) if one.database == "all"}
    assert found == {
        "image_to_text and text_to_image": 0.0,
        "pair_to_pair": 0.2,
        "image_to_pair": -0.1,
        "text_to_pair": 0.0,
        "image_to_pair against lone image_to_text": -0.1,
        "text_to_pair against lone text_to_image": 0.0,
    }


def test_partial_queries_are_compared_with_a_reference_that_does_not_fuse() -> None:
    outcomes = {"baseline": [measured([0.3] * 3)], "x": of_masks(image_to_pair=0.6)}
    found = differences_of("d", "title", "baseline", outcomes)
    contests = {one.contest: one.mean for one in found if one.protocol == "paired"}
    assert contests == {
        "image_to_pair against lone image_to_text": 0.3,
        "text_to_pair against lone text_to_image": 0.2,
    }
    assert len({one.key for one in found}) == len(found)


def test_the_board_averages_no_two_masks() -> None:
    outcomes = {name: of_masks(pair_to_pair=level) for name, level in (("late", 0.6), ("x", 0.8))}
    rows = [row for name, found in outcomes.items() for row in rows_of("d", "title", name, found)]
    page = leaderboard_page(rows, {}, differences_of("d", "title", "late", outcomes))
    section = page[page.index("paired protocol") :]
    assert "<h3>pair_to_pair</h3>" in section
    assert '<td class="lead-figure">0.800</td>' in section  # 0.575 with the other masks in it
    _, cells = board_table(rows)
    assert ["paired", "64", "pair_to_pair", "all", "x", "0.800", "1"] in cells


def test_a_later_difference_replaces_that_of_the_same_methods(tmp_path: Path) -> None:
    merged = merge(differences(("x", 0.6), ("y", 0.6)), differences(("x", 0.3)))
    assert [(one.method, one.database, one.verdict) for one in merged] == [
        ("x", "all", "worse"),
        ("x", "unseen", "worse"),
        ("y", "all", "better"),
        ("y", "unseen", "better"),
    ]
    write_rows(tmp_path / "differences.json", merged)
    assert read_rows(tmp_path / "differences.json", Difference) == merged


def test_an_outcome_survives_its_file(tmp_path: Path) -> None:
    outcome(0.5).write(tmp_path / "o.json")
    assert read_outcome(tmp_path / "o.json") == outcome(0.5)


@pytest.mark.parametrize("text", ["", "{}", '{"scores": [{}]}'])
def test_a_file_that_is_no_outcome_is_measured_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "o.json").write_text(text)
    assert read_outcome(tmp_path / "o.json") is None


def test_an_outcome_of_before_the_unseen_precisions_is_measured_again(tmp_path: Path) -> None:
    outcome(0.5).write(tmp_path / "o.json")
    stored = json.loads((tmp_path / "o.json").read_text())
    for score in stored["scores"]:
        del score["unseen_average_precision"]
    (tmp_path / "o.json").write_text(json.dumps(stored))
    assert read_outcome(tmp_path / "o.json") is None


def test_the_page_says_what_its_ranks_are_not() -> None:
    assert "not CLIP. Ranks here are not ranks on MIRFLICKR, NUS-WIDE or COCO, where nothing was run." in caveat(
        board()
    )
    assert "not ranks on NUS-WIDE or COCO, where" in caveat(board(data="mirflickr"))


def test_the_page_ranks_methods_and_sets_the_control_apart() -> None:
    page = leaderboard_page(
        board("itq", 0.2) + board("baseline", 0.5) + board(CONTROL, 0.99),
        {("openclipart", "title", "baseline", "itq"): 0},
    )
    assert page.index("<td>baseline</td>") < page.index("<td>itq</td>") < page.index(f"<td>{CONTROL}</td>")
    assert "&lt; 0.001" in page
    assert "0.500 ± 0.000" in page


def test_the_page_shows_how_far_methods_are_from_the_reference() -> None:
    page = leaderboard_page(board("x", 0.6) + board(), {}, differences(("x", 0.6)))
    assert "<h3>Against baseline: image_to_text and text_to_image</h3>" in page
    assert "x, unseen" in page[page.index("<svg") :]
    assert "conditional on these trainings and this split" in page
    assert "Against" not in leaderboard_page(board("x", 0.6) + board(), {}, [])


def test_the_page_escapes_names() -> None:
    page = leaderboard_page(board("<b>x</b>"), {}, differences(("<b>x</b>", 0.6)))
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x" in page


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        write_board(tmp_path / folder, board(), {}, differences(("x", 0.6)))
    names = ["differences.json", "leaderboard.html", "leaderboard.json", "leaderboard.svg"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes() for name in names)


def test_the_command_line_lists_the_best_first() -> None:
    _, cells = board_table(board("itq", 0.2) + board("baseline", 0.5))
    assert [row[4] for row in cells[:2]] == ["baseline", "itq"]


def test_the_command_line_shows_differences_in_points_the_largest_first() -> None:
    headings, cells = difference_table(differences(("itq", 0.3), ("x", 0.6)))
    assert headings[2] == "points above baseline"
    assert [line[:3] for line in cells] == [
        ["x", "whole", "+10.00"],
        ["x", "unseen", "+5.00"],
        ["itq", "whole", "-20.00"],
        ["itq", "unseen", "-10.00"],
    ]
    assert cells[0][4:] == ["+10.00, +10.00, +10.00", "3", "60", "16, 64", "better", "image_to_text and text_to_image"]


@pytest.mark.parametrize("method", competitors())
def test_every_method_meets_the_same_conditions(method: str) -> None:
    recipe = contest_recipe(method, 2, "title", 7, (16, 64))
    assert (recipe.seed, recipe.captions) == (2, "title")
    assert recipe.closed_form or recipe.optimiser.epochs == 7


def test_a_length_that_a_recipe_does_not_serve_is_named() -> None:
    with pytest.raises(RecipeError, match=r"itq: expected codes of 24 bits, found lengths \[16, 32, 64, 128\]"):
        contest_recipe("itq", 0, "title", 30, (16, 24))


def test_an_entry_is_named_by_all_that_decides_it(archive: ItemArchive) -> None:
    recipes = [contest_recipe("baseline", seed, "title", epochs, (16,)) for seed in (0, 1) for epochs in (1, 2)]
    assert len({entry_name(recipe, archive) for recipe in recipes}) == 4
    assert entry_name(recipes[0], archive) == entry_name(recipes[0], archive)


def test_label_only_knows_what_it_is_asked(archive: ItemArchive) -> None:
    found = measure_label_only(archive, 32, 0, "title")
    assert {score.protocol for score in found.scores} == {"oracle"}
    assert all(score.whole > 0.9 for score in found.scores)


def test_each_query_is_stored_over_the_unseen_database_too(archive: ItemArchive) -> None:
    for score in measure_label_only(archive, 32, 0, "title").scores:
        assert score.unseen_average_precision is not None
        assert len(score.unseen_average_precision) == len(score.average_precision)
        answered = [value for value in score.unseen_average_precision if value is not None]
        assert score.unseen == pytest.approx(np.mean(answered), abs=1e-6)


def test_a_data_set_without_an_unseen_part_has_no_unseen_precisions(tmp_path: Path) -> None:
    make_archive(tmp_path / "archive.zip", 40)
    found = measure_label_only(ItemArchive.open(tmp_path / "archive.zip"), 16, 0, "title")
    assert {(score.unseen, score.unseen_average_precision) for score in found.scores} == {(None, None)}


def test_encoding_is_timed_per_item(archive: ItemArchive) -> None:
    assert encode_rate(FakeHasher(64), archive, archive.items[:4], "title") > 0
