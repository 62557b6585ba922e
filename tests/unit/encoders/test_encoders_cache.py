"""The feature cache: whole shards or nothing."""

import os
import tracemalloc
from pathlib import Path

import numpy as np

from encoders.cache import FeatureCache


def test_features_survive_reopening(tmp_path: Path) -> None:
    FeatureCache(tmp_path, "image", 3).put({"a" * 64: np.array([1, 2, 3], dtype=np.float32)})
    found = FeatureCache(tmp_path, "image", 3).get("a" * 64)
    assert found is not None
    assert found.tolist() == [1, 2, 3]


def test_an_unknown_key_gives_none(tmp_path: Path) -> None:
    assert FeatureCache(tmp_path, "image", 3).get("b" * 64) is None


def test_modalities_do_not_mix(tmp_path: Path) -> None:
    FeatureCache(tmp_path, "image", 3).put({"a" * 64: np.zeros(3, dtype=np.float32)})
    assert FeatureCache(tmp_path, "text", 3).get("a" * 64) is None


def test_a_shard_of_another_width_is_not_read(tmp_path: Path) -> None:
    FeatureCache(tmp_path, "image", 3).put({"a" * 64: np.zeros(3, dtype=np.float32)})
    assert len(FeatureCache(tmp_path, "image", 4)) == 0


def test_a_killed_write_leaves_what_was_there(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "image", 3)
    cache.put({"a" * 64: np.zeros(3, dtype=np.float32)})
    (tmp_path / "image-000002-1.tmp").write_bytes(b"half")
    assert len(FeatureCache(tmp_path, "image", 3)) == 1


def test_several_shards_are_one_cache(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "image", 1)
    for name in "abc":
        cache.put({name * 64: np.array([ord(name)], dtype=np.float32)})
    again = FeatureCache(tmp_path, "image", 1)
    assert [again.get(name * 64) for name in "abc"] == [ord(name) for name in "abc"]


def test_half_precision_rounds_and_gives_single_back(tmp_path: Path) -> None:
    value = np.array([1 / 3, 1000.1], dtype=np.float32)
    FeatureCache(tmp_path, "image", 2, "float16").put({"a" * 64: value})
    found = FeatureCache(tmp_path, "image", 2, "float16").get("a" * 64)
    assert found is not None
    assert found.dtype == np.float32
    assert np.array_equal(found, value.astype(np.float16).astype(np.float32))
    assert FeatureCache(tmp_path, "image", 2).get("a" * 64) is None


def test_values_of_several_shapes_are_kept_in_one_call(tmp_path: Path) -> None:
    values = {
        name * 64: np.full(shape, 2.0, np.float32) for name, shape in zip("abc", [(2, 3), (4, 3), (2, 3)], strict=True)
    }
    FeatureCache(tmp_path, "text", None).put(values)
    again = FeatureCache(tmp_path, "text", None)
    assert len(again) == 3
    assert all(np.array_equal(again.get(key), value) for key, value in values.items())


def test_a_shard_that_was_cut_short_is_computed_again(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "image", 3)
    cache.put({"a" * 64: np.zeros(3, dtype=np.float32)})
    cache.put({"b" * 64: np.zeros(3, dtype=np.float32)})
    first, _ = sorted(tmp_path.glob("*.npy"))
    for size in (first.stat().st_size - 1, 200, 0):
        os.truncate(first, size)
        again = FeatureCache(tmp_path, "image", 3)
        assert ("a" * 64 in again, "b" * 64 in again) == (False, True)


def test_opening_and_adding_hold_no_values_in_memory(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "image", (256, 1024), "float16")  # half a megabyte each
    for shard in range(4):
        cache.put({f"{shard}{row}" * 32: np.ones((256, 1024), np.float16) for row in range(4)})
    tracemalloc.start()
    again = FeatureCache(tmp_path, "image", (256, 1024), "float16")
    again.get("00" * 32)
    again.put({"aa" * 32: np.ones((256, 1024), np.float16)})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(again) == 17
    assert peak < 4 * 2**20  # a few values; all of them are 8 MiB
