"""Many inputs at once: bad ones are set aside with their reasons, order and codes stay."""

import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_home import png

from encoders.errors import TextError
from model.bulk import encode_in_bulk, in_batches, sift
from model.errors import UnsupportedImage
from model.fake import FakeHasher, FusingFakeHasher
from model.images import decode_image

HASHER = FakeHasher(32)


def read(path: Path) -> Image.Image:
    return decode_image(path.read_bytes())


def files(folder: Path, bad: Sequence[int] = ()) -> list[Path]:
    paths = [folder / f"{number:02}.png" for number in range(20)]
    for number, path in enumerate(paths):
        path.write_bytes(b"" if number in bad else png(number))
    return paths


def test_bad_inputs_are_set_aside_with_their_reasons() -> None:
    def halve(number: int) -> int:
        if number % 2:
            raise UnsupportedImage(f"{number} is odd")
        return number // 2

    sifted = sift([4, 3, 2], halve, lambda number: f"number {number}")
    assert (sifted.inputs, sifted.values) == ([4, 2], [2, 1])
    assert [(one.id, one.reason) for one in sifted.skipped] == [("number 3", "3 is odd")]


def test_a_defect_is_not_taken_for_a_bad_input() -> None:
    with pytest.raises(ZeroDivisionError):
        sift([0], lambda number: 1 // number)


def test_results_come_in_order_and_every_input_is_counted() -> None:
    done: list[int] = []
    results = list(in_batches(list(range(10)), sum, batch=3, workers=2, advance=done.append))
    assert (results, done) == ([3, 12, 21, 9], [3, 3, 3, 1])


def test_no_more_batches_are_read_than_are_soon_needed() -> None:
    started: list[int] = []
    released = threading.Event()

    def work(part: Sequence[int]) -> int:
        started.append(part[0])
        return part[0]

    with closing(in_batches(list(range(100)), work, batch=1, workers=2)) as results:
        assert next(results) == 0
        released.wait(0.02)
        assert len(started) <= 5


def test_a_failing_batch_ends_the_run_with_its_error() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_batches([1, 0], lambda part: 1 // part[0], batch=1))


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_a_bad_file_does_not_end_the_run_nor_move_a_code(tmp_path: Path, batch: int) -> None:
    paths = [*files(tmp_path, bad=[3, 19]), tmp_path / "missing.png"]
    encoded = encode_in_bulk(HASHER, paths, read, name=lambda path: path.name, batch=batch)
    good = [path for path in paths if path.exists() and path.read_bytes()]
    assert encoded.ids == [path.name for path in good]
    assert np.array_equal(encoded.codes, HASHER.encode_images([read(path) for path in good]).codes)
    assert [one.id for one in encoded.skipped] == ["03.png", "19.png", "missing.png"]
    assert "found 0 bytes" in encoded.skipped[0].reason
    assert "No such file" in encoded.skipped[2].reason


def test_a_text_without_a_visible_character_is_skipped() -> None:
    encoded = encode_in_bulk(HASHER, ["a", "\u200b", "b " * 300], lambda text: text, name=lambda text: repr(text[:3]))
    assert (len(encoded.codes), encoded.truncated_tokens) == (2, 44)
    assert [one.id for one in encoded.skipped] == [repr("\u200b")]


def test_images_and_texts_are_fused_in_pairs(tmp_path: Path) -> None:
    paths, hasher = files(tmp_path, bad=[1])[:3], FusingFakeHasher(32)
    texts = {path: "b " * 257 if path is paths[2] else "a" for path in paths}
    encoded = encode_in_bulk(hasher, paths, lambda path: (read(path), texts[path]), batch=2)
    expected = hasher.encode_pairs([read(paths[0]), read(paths[2])], ["a", "b " * 257])
    assert np.array_equal(encoded.codes, expected.codes)
    assert (encoded.truncated_tokens, [one.id for one in encoded.skipped]) == (1, [str(paths[1])])


def test_a_pair_without_a_visible_text_is_skipped(tmp_path: Path) -> None:
    (path, *_) = files(tmp_path)
    encoded = encode_in_bulk(FusingFakeHasher(32), ["a", "\u200b"], lambda text: (read(path), text), name=repr)
    assert [one.id for one in encoded.skipped] == [repr("\u200b")]


def test_nothing_but_bad_inputs_gives_no_codes() -> None:
    def refuse(_: str) -> str:
        raise TextError("no")

    encoded = encode_in_bulk(HASHER, ["a", "b"], refuse)
    assert (encoded.codes.shape, len(encoded.skipped)) == ((0, 4), 2)
