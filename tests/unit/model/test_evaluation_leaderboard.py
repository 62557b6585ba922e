"""The leaderboard: rows over seeds, merging, ranking, tests between methods, and the page of them."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from outcomes import board, differences, measured, outcome

from model.errors import ArchiveError
from model.evaluation.difference import Difference
from model.evaluation.leaderboard import (
    CONTROL,
    Row,
    counted,
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


def test_a_row_has_exactly_the_documented_fields() -> None:
    expected = "data captions method competes protocol database direction bits seeds map_expected_mean"
    assert [field.name for field in fields(Row)] == [
        *expected.split(),
        "map_expected_std",
        "train_s",
        "encode_per_s",
        "trials",
    ]


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


def test_a_run_of_fewer_seeds_leaves_the_rows_of_more() -> None:
    few = rows_of("openclipart", "title", "baseline", [outcome(0.9)])
    many = board("baseline", 0.5)
    assert merge(many, few) == merge([], many)
    assert merge(few, many) == merge([], many)


def test_rows_of_an_older_file_get_the_trials_of_their_method(tmp_path: Path) -> None:
    older = [asdict(row) for row in board() + board("x") + board(CONTROL)]
    for row in older:
        del row["trials"]
    (tmp_path / "leaderboard.json").write_text(json.dumps(older))
    rows = read_rows(tmp_path / "leaderboard.json", Row)
    assert {row.trials for row in rows} == {None}
    found = [counted(row, {"baseline": 10}.get) for row in rows]
    assert {row.method: row.trials for row in found} == {"baseline": 10, "x": None, CONTROL: 0}
    assert [counted(row, {"baseline": 12}.get) for row in found] == found  # what was counted stays


def test_the_page_shows_trials_and_a_dash_where_nobody_counted_them() -> None:
    page = leaderboard_page([replace(row, trials=10) for row in board()] + board("x", 0.3), {})
    assert "<td>3</td><td>10</td>" in page
    assert "<td>3</td><td>-</td>" in page


def test_the_second_figure_sets_seconds_against_map(tmp_path: Path) -> None:
    write_board(tmp_path, board() + board("another", 0.5), {}, [])
    figure = (tmp_path / "time.svg").read_text()
    assert all(text in figure for text in ("training, s", "lone mAP@all, 64 bits", ">another<", ">baseline<"))


def test_data_without_an_unseen_part_is_drawn_without_one(tmp_path: Path) -> None:
    write_board(tmp_path, [row for row in board() if row.database == "all"], {}, [])
    assert ">baseline<" in (tmp_path / "time.svg").read_text()


def test_floors_are_drawn_only_where_there_is_nothing_else(tmp_path: Path) -> None:
    floor = [replace(row, trials=0) for row in board("lsh", 0.1)]
    write_board(tmp_path / "both", board() + floor, {}, [])
    write_board(tmp_path / "alone", floor, {}, [])
    for name in ("leaderboard.svg", "time.svg"):
        assert ">lsh<" not in (tmp_path / "both" / name).read_text()
        assert ">lsh<" in (tmp_path / "alone" / name).read_text()


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
    names = ["differences.json", "leaderboard.html", "leaderboard.json", "leaderboard.svg", "time.svg"]
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
    assert headings[4:7] == ["verdict", "16 bits", "64 bits"]
    interval, by_seed = "+10.00 (+10.00 to +10.00)", "+10.00, +10.00, +10.00"
    crossing = "image_to_text and text_to_image"
    assert cells[0][4:] == ["better", interval, interval, by_seed, "3", "60", crossing]
