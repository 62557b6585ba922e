"""The prefix cache: states once, the same whoever computed them, whole after a kill."""

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encoders.prefix import SHARD, PrefixCache
from encoders.registry import load_backbone
from encoders.views import view_of

NAME = "clip:crossbit-tiny:random"
TEXTS = ["a dog", "two dogs in the snow", "dog " * 20]
ROOT = Path(__file__).parents[3]
FILL = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
from encoders.prefix import PrefixCache
from encoders.registry import load_backbone
rng = np.random.default_rng(0)
images = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(int(sys.argv[2]))]
cache = PrefixCache(load_backbone("clip:crossbit-tiny:random", "cpu"), Path(sys.argv[1]), image_tail=1, text_tail=1)
cache.add_images(images, views=2)
"""


def pictures(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(count)]


def open_cache(folder: Path, name: str = NAME, tail: int = 1) -> PrefixCache:
    return PrefixCache(load_backbone(name, "cpu"), folder, image_tail=tail, text_tail=tail)


@pytest.mark.parametrize("name", [NAME, "effnet-lite0+minilm"])
@pytest.mark.parametrize("tail", [1, 2])
def test_a_tail_goes_on_from_stored_states(tmp_path: Path, name: str, tail: int) -> None:
    backbone = load_backbone(name, "cpu")
    cache = open_cache(tmp_path, name, tail)
    images = pictures(2)
    keys = cache.add_images(images)
    tuned = backbone.image_tower.tail(tail).eval().requires_grad_(False)
    expected = backbone.image_features(torch.stack([backbone.preprocess(image) for image in images]))
    assert torch.allclose(tuned(cache.image_states(keys)).features, expected, atol=5e-3)
    (first, *_), (second, *_), _ = cache.add_texts(TEXTS)
    states, tokens = cache.text_states([first, second])
    tuned = backbone.text_tower.tail(tail).eval().requires_grad_(False)
    expected = backbone.text_features(tokens)
    assert torch.allclose(tuned(states, tokens).features, expected, atol=5e-3)


def test_a_stored_input_does_not_pass_the_tower_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(3)
    first = open_cache(tmp_path)
    keys, texts = first.add_images(images, views=2), first.add_texts(TEXTS)
    again = open_cache(tmp_path)

    def refuse(*_: object) -> None:
        raise AssertionError("the tower ran")

    monkeypatch.setattr(again, "_enter_image", refuse)
    monkeypatch.setattr(again, "_enter_text", refuse)
    assert again.add_images(images, views=2) == keys
    assert again.add_texts(TEXTS) == texts
    for view in range(2):
        assert torch.equal(again.image_states(keys, view), first.image_states(keys, view))
    flat = [key for names in texts for key in names]
    assert len(flat) == 4  # the last text has two chunks
    assert all(torch.equal(a, b) for a, b in zip(again.text_states(flat), first.text_states(flat), strict=True))


def test_states_do_not_depend_on_company(tmp_path: Path) -> None:
    images = pictures(5)
    together, alone = open_cache(tmp_path / "a"), open_cache(tmp_path / "b")
    keys = together.add_images(images)
    for image in reversed(images):
        alone.add_images([image])
    assert torch.equal(together.image_states(keys), alone.image_states(keys))
    texts = [names[0] for names in together.add_texts(TEXTS * 9)]
    for text in TEXTS:
        alone.add_texts([text])
    assert torch.equal(together.text_states(texts)[0], alone.text_states(texts)[0])


def test_threads_that_begin_at_once_find_what_each_of_them_stored(tmp_path: Path) -> None:
    images, begun = pictures(8), threading.Barrier(4)

    def add(start: int) -> list[str]:
        begun.wait(10)
        return cache.add_images(images[start : start + 2])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(5):
            cache = open_cache(tmp_path / str(number))
            with ThreadPoolExecutor(4) as pool:
                keys = [key for part in pool.map(add, range(0, 8, 2)) for key in part]
            assert len(cache.image_states(keys)) == 8
    finally:
        sys.setswitchinterval(interval)


def test_another_tail_or_backbone_has_states_of_its_own(tmp_path: Path) -> None:
    keys = open_cache(tmp_path).add_images(pictures(1))
    with pytest.raises(KeyError, match="has no stored state"):
        open_cache(tmp_path, tail=2).image_states(keys)
    with pytest.raises(KeyError, match="has no stored state"):
        open_cache(tmp_path, f"{NAME}@head").image_states(keys)
    with pytest.raises(KeyError, match="add its image with as many views"):
        open_cache(tmp_path).image_states(keys, view=1)


def test_after_a_kill_whole_shards_stay_and_the_rest_is_computed(tmp_path: Path) -> None:
    count = 40 * SHARD
    command = [sys.executable, "-W", "ignore", "-c", FILL, str(tmp_path), str(count)]
    filling = subprocess.Popen(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "", "HF_HUB_OFFLINE": "1"})
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*/*.npy"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    filling.kill()
    assert filling.wait() == -signal.SIGKILL
    survivors = {path: path.read_bytes() for path in tmp_path.glob("*/*.npy")}
    assert len(survivors) >= 2
    (folder,) = tmp_path.glob("*")
    (folder / "image-half.tmp").write_bytes(b"half")
    some = pictures(4 * SHARD)
    resumed = open_cache(tmp_path)
    kept = len(resumed._view(0))
    assert 0 < kept < count
    assert kept % SHARD == 0
    keys = resumed.add_images(some, views=2)
    assert {path: path.read_bytes() for path in survivors} == survivors
    fresh = open_cache(tmp_path / "fresh")
    fresh.add_images(some, views=2)
    for view in range(2):
        assert torch.equal(resumed.image_states(keys, view), fresh.image_states(keys, view))


def test_views_are_fixed_by_content_and_number() -> None:
    (image,) = pictures(1)
    assert view_of(image, "k", 0) is image
    views = [np.asarray(view_of(image, "k", number)) for number in range(1, 9)]
    assert all(view.shape == (28, 28, 3) for view in views)
    assert all(np.array_equal(view, np.asarray(view_of(image, "k", n))) for n, view in enumerate(views, start=1))
    assert len({view.tobytes() for view in views}) > 4
    assert not np.array_equal(views[0], np.asarray(view_of(image, "other", 1)))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2)])
def test_the_smallest_image_has_views(size: tuple[int, int]) -> None:
    assert min(view_of(Image.new("RGB", size), "k", 1).size) >= 1
