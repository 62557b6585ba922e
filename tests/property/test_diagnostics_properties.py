"""Diagnostics against their definitions on unpacked bits, and the leak alarm on codes made and not made from labels."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from index.codes import pack, unpack
from model.evaluation.diagnostics import MARGIN_BINS, diagnose, pair_agreement
from model.evaluation.label_only import fit_label_coder
from model.evaluation.leak import MIN_ITEMS, check_leak

Codes = NDArray[np.uint8]


def codes(rows: int | None = None) -> st.SearchStrategy[Codes]:
    count = st.integers(2, 30) if rows is None else st.just(rows)
    return count.flatmap(lambda n: arrays(np.uint8, (n, 2), elements=st.sampled_from([0, 1, 85, 170, 254, 255])))


@given(codes())
def test_balance_dead_bits_and_correlation_follow_their_definitions(packed: Codes) -> None:
    bits = unpack(packed, 16).astype(np.float64)
    found = diagnose(packed)
    assert np.allclose(found.balance, bits.mean(0))
    assert found.dead == [bit for bit in range(16) if len(set(bits[:, bit])) == 1]
    alive = [bit for bit in range(16) if bit not in found.dead]
    if len(alive) > 1:
        assert np.allclose(found.correlation[np.ix_(alive, alive)], np.corrcoef(bits[:, alive].T), atol=1e-9)
    assert not found.correlation[found.dead].any()


@given(codes())
def test_buckets_and_collisions_follow_their_definitions(packed: Codes) -> None:
    found = diagnose(packed)
    rows = [row.tobytes() for row in packed]
    assert found.distinct == len(set(rows)) == sum(found.buckets.values())
    assert sum(size * count for size, count in found.buckets.items()) == len(rows)
    pairs = list(combinations(rows, 2))
    assert found.collision_rate == pytest.approx(sum(one == other for one, other in pairs) / len(pairs))


@given(codes())
def test_effective_bits_lie_between_nothing_and_all_living_bits(packed: Codes) -> None:
    found = diagnose(packed)
    assert 0 <= found.effective_bits <= 16 - len(found.dead) + 1e-9


@given(codes(), st.binary(min_size=2, max_size=2))
def test_turning_a_bit_over_everywhere_changes_no_diagnostic_but_balance(packed: Codes, mask: bytes) -> None:
    turned = diagnose(packed ^ np.frombuffer(mask, dtype=np.uint8))
    found = diagnose(packed)
    assert (turned.distinct, turned.buckets, turned.dead) == (found.distinct, found.buckets, found.dead)
    assert turned.effective_bits == pytest.approx(found.effective_bits)
    assert np.allclose(np.minimum(turned.balance, 1 - turned.balance), np.minimum(found.balance, 1 - found.balance))


def test_all_codes_have_as_many_effective_bits_as_bits_and_a_repeated_bit_does_not_count() -> None:
    every = np.arange(256, dtype=np.uint8)[:, np.newaxis]
    assert diagnose(every).effective_bits == pytest.approx(8)
    assert diagnose(np.hstack([every, every])).effective_bits == pytest.approx(8)


def test_codes_that_are_all_equal_have_no_effective_bit() -> None:
    found = diagnose(np.full((5, 2), 129, dtype=np.uint8))
    assert (found.effective_bits, len(found.dead), found.buckets) == (0, 16, {5: 1})


@given(st.integers(2, 12).flatmap(lambda n: st.tuples(codes(n), codes(n))))
def test_pair_agreement_follows_its_definition(sides: tuple[Codes, Codes]) -> None:
    images, texts = (unpack(side, 16) for side in sides)
    found = pair_agreement(*sides)
    assert found.agreement == pytest.approx(float((images == texts).mean()))
    assert found.shuffled == pytest.approx(float((images[:, None] == texts[None]).mean()))
    assert found.identical == pytest.approx(float((images == texts).all(1).mean()))


@given(arrays(np.float32, (7, 16), elements=st.floats(0, 100, width=32)))
def test_every_margin_lies_in_one_bin(margins: NDArray[np.float32]) -> None:
    found = diagnose(np.zeros((7, 2), dtype=np.uint8), margins)
    assert found.margins is not None
    assert (len(found.margins), int(found.margins.sum())) == (MARGIN_BINS, margins.size)


def labelled(items: int, seed: int) -> NDArray[np.int64]:
    """Sets of one or two of six labels."""
    generator = np.random.default_rng(seed)
    labels = np.zeros((items, 6), dtype=np.int64)
    labels[np.arange(items), generator.integers(6, size=items)] = 1
    labels[np.arange(items), generator.integers(6, size=items)] = 1
    return labels


def random_codes(items: int, bits: int, seed: int) -> Codes:
    return pack(np.random.default_rng(seed).random((items, bits)) > 0.5)


@pytest.mark.parametrize("bits", [16, 64])
def test_the_alarm_sounds_on_codes_made_from_labels(bits: int) -> None:
    known, unseen = labelled(400, 0), labelled(100, 1)
    coder = fit_label_coder(known, bits)
    found = check_leak(coder.encode(known), known, coder.encode(unseen), unseen)
    assert found.agreement == 1
    assert found.alarm
    assert found.in_words("codes").startswith("LEAK ALARM for codes: 100 unseen items agree")


@pytest.mark.parametrize("seed", range(3))
def test_the_alarm_is_silent_on_codes_that_have_nothing_to_do_with_labels(seed: int) -> None:
    found = check_leak(random_codes(400, 64, seed), labelled(400, 0), random_codes(100, 64, seed + 9), labelled(100, 1))
    assert not found.alarm
    assert found.agreement == pytest.approx(found.shuffled, abs=0.03)
    assert found.in_words("codes").startswith("No leak alarm for codes")


@given(st.floats(0, 1))
def test_the_alarm_sounds_exactly_from_its_threshold_on(share: float) -> None:
    """Codes from labels of which a share of the bits is replaced by noise."""
    known, unseen = labelled(400, 0), labelled(100, 1)
    projection = np.random.default_rng(2).standard_normal((6, 64))
    noisy = np.random.default_rng(3).random((100, 64)) < share
    bits = unpack(pack(unseen @ projection > 0), 64) ^ noisy
    found = check_leak(pack(known @ projection > 0), known, pack(bits), unseen)
    assert found.agreement == pytest.approx(1 - noisy.mean())
    assert found.alarm == (found.agreement >= found.threshold)


def test_too_few_items_give_no_verdict() -> None:
    labels = labelled(400, 0)
    few = labelled(MIN_ITEMS - 1, 1)
    found = check_leak(random_codes(400, 16, 0), labels, random_codes(len(few), 16, 1), few)
    assert not found.enough
    assert not found.alarm
    assert "nothing can be said" in found.in_words("codes")


def test_items_without_labels_and_rare_sets_are_left_out() -> None:
    known = np.array([[0, 0]] * 10 + [[1, 0]] * 5 + [[0, 1]] * 4)
    unseen = np.array([[0, 0], [1, 0], [0, 1], [1, 0]])
    found = check_leak(random_codes(19, 16, 0), known, random_codes(4, 16, 1), unseen)
    assert (found.items, found.sets) == (2, 1)


def test_a_label_coder_puts_items_that_share_labels_nearer() -> None:
    labels = labelled(200, 4)
    coded = fit_label_coder(labelled(400, 0), 64).encode(labels)
    distance = np.bitwise_count(coded[:, None] ^ coded[None]).sum(2)
    shares = labels @ labels.T > 0
    assert distance[shares].mean() < 0.5 * distance[~shares].mean()
