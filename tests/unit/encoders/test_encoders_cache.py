"""The feature cache: whole shards or nothing."""

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
