"""How far two methods are apart: the paired bootstrap over queries and seeds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes import QUERIES, differences, estimate, level_at, measured, outcome

from model.evaluation import difference
from model.evaluation.compare import Outcome, Score
from model.evaluation.difference import MASKS, differences_of, paired_bootstrap
from model.evaluation.leaderboard import rows_of
from model.evaluation.leaderboard_page import board_table, leaderboard_page

few = settings(max_examples=25)
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


def test_each_length_has_an_interval_of_its_own() -> None:
    one = [measured([0.6, 0.7], bits=16), measured([0.5, 0.9], bits=64)]
    other = [measured([0.5, 0.5], bits=bits) for bits in (16, 64)]
    found = estimate(one, other)
    assert list(found.by_length) == ["16", "64"]
    for bits, part in (("16", one[:1]), ("64", one[1:])):
        alone = estimate(part, other)
        assert found.by_length[bits] == [alone.mean, alone.lower, alone.upper]
