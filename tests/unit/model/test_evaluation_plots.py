"""Charts: what tells their curves apart."""

import re

import pytest

from model.evaluation import plots

SQUARE = re.compile(r'd="M -2 2\s+L 2 2\s+L 2 -2\s+L -2 -2\s+z')


@pytest.mark.parametrize(("curves", "squares"), [(len(plots.COLOURS), False), (len(plots.COLOURS) + 1, True)])
def test_a_curve_whose_colour_another_has_is_marked_otherwise(curves: int, squares: bool) -> None:
    panel = {f"method {place}": ([16, 32], [0.1 * place, 0.2 * place], [0.0, 0.0]) for place in range(curves)}
    assert bool(SQUARE.search(plots.spreads({"whole": panel}))) is squares
