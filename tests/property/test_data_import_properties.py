"""Groups of an import against their definition, splits against whole groups, near-duplicates against all pairs."""

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.data.duplicates import MAX_MEAN_CHANGE, RADIUS, Signature, Signatures
from model.data.ledger import GROUP, Ledger, seeded_ranks
from model.data.splits import seeded_order

ROWS = st.lists(st.lists(st.sampled_from("abcdef"), max_size=2), max_size=25)


def components(rows: list[list[str]]) -> list[set[int]]:
    """Rows that share a key, however indirectly, by repeated joining."""
    groups = [({number}, set(keys)) for number, keys in enumerate(rows)]
    while True:
        for one in range(len(groups)):
            other = next((two for two in range(one + 1, len(groups)) if groups[one][1] & groups[two][1]), None)
            if other is not None:
                members, keys = groups.pop(other)
                groups[one] = (groups[one][0] | members, groups[one][1] | keys)
                break
        else:
            return [members for members, _ in groups]


@given(ROWS, st.randoms(use_true_random=False))
def test_groups_are_the_connected_rows_and_have_names_of_their_own(rows: list[list[str]], random: Random) -> None:
    ids = [f"id{number:02}" for number in range(len(rows))]
    arrival = random.sample(range(len(rows)), len(rows))
    with Ledger() as ledger:
        for number in arrival:
            ledger.add(ids[number], "somewhere", keys=[f"{GROUP}{key}" for key in rows[number]])
        order = ledger.id_order()
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        names = list(ledger.group_names(ledger.roots(rank), rank))
        assert list(ledger.ids()) == ids
    groups = components(rows)
    for members in groups:
        keys = sorted(f"{GROUP}{key}" for member in members for key in rows[member])
        expected = keys[0] if keys else f"id {ids[min(members)]}"
        assert {names[member] for member in members} == {expected}
    assert len(set(names)) == len(groups)


@given(st.lists(st.text(max_size=5), unique=True, max_size=30))
def test_seeded_ranks_are_the_seeded_order(names: list[str]) -> None:
    ranks = seeded_ranks(iter(names), 1814)
    assert [names[place] for place in np.argsort(ranks)] == seeded_order(names, 1814)


PICTURES = st.tuples(st.lists(st.integers(0, 63), max_size=4), st.sampled_from([100, 103, 130, 136]))


@given(st.lists(PICTURES, min_size=1, max_size=20))
def test_near_duplicates_are_the_pairs_within_both_bounds(pictures: list[tuple[list[int], int]]) -> None:
    signatures, gradients = Signatures(), []
    for number, (bits, tone) in enumerate(pictures):
        gradients.append(sum(1 << bit for bit in set(bits)))
        signatures.add(number, Signature(gradients[-1], bytes([0, *[tone] * 191])))
    expected = {
        (one, other)
        for one in range(len(pictures))
        for other in range(one + 1, len(pictures))
        if (gradients[one] ^ gradients[other]).bit_count() <= RADIUS
        and abs(pictures[one][1] - pictures[other][1]) * 191 / 192 <= MAX_MEAN_CHANGE
    }
    assert {(min(pair), max(pair)) for pair in signatures.near()} == expected
