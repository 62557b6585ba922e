import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matlab_files import save73
from numpy.typing import NDArray
from scipy.io import savemat

from model.data.matlab import read_captions, read_labels, read_paths
from model.errors import ArchiveError

PATHS = ["im1.jpg", "im23.jpg", "im456.jpg"]
CAPTIONS = [["a dog", "a brown dog in grass"], ["sky"], []]
LABELS = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.uint8)
TEXTS = [tuple(row) for row in CAPTIONS]


def cells(values: Sequence[object]) -> NDArray[np.object_]:
    array = np.empty((len(values), 1), dtype=object)
    for row, value in enumerate(values):
        array[row, 0] = value
    return array


def save5(path: Path, variables: dict[str, Any]) -> None:
    savemat(path, {name: cells(value) if isinstance(value, list) else value for name, value in variables.items()})


def save5_packed(path: Path, variables: dict[str, Any]) -> None:
    savemat(
        path,
        {name: cells(value) if isinstance(value, list) else value for name, value in variables.items()},
        do_compression=True,
    )


Save = Callable[[Path, dict[str, Any]], None]
both = pytest.mark.parametrize("save", [save5, save5_packed, save73])


@both
@pytest.mark.parametrize("key", ["index", "imgs", "FAll"])
def test_paths_are_read_under_every_key(tmp_path: Path, save: Save, key: str) -> None:
    save(tmp_path / "index.mat", {"other": LABELS, key: PATHS})
    assert read_paths(tmp_path / "index.mat") == PATHS


@both
@pytest.mark.parametrize("key", ["caption", "tags", "YAll"])
def test_caption_lists_are_read_under_every_key(tmp_path: Path, save: Save, key: str) -> None:
    rows = [cells(row) if save is not save73 else row for row in CAPTIONS]
    save(tmp_path / "caption.mat", {key: rows})
    assert read_captions(tmp_path / "caption.mat", 3) == TEXTS


@both
@pytest.mark.parametrize("key", ["category", "LAll", "labels", "label"])
def test_labels_are_read_under_every_key(tmp_path: Path, save: Save, key: str) -> None:
    save(tmp_path / "label.mat", {key: LABELS})
    np.testing.assert_array_equal(read_labels(tmp_path / "label.mat", 3), LABELS)


@both
def test_the_first_key_in_the_published_order_wins(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "index.mat", {"FAll": ["x", "y"], "index": PATHS})
    assert read_paths(tmp_path / "index.mat") == PATHS


@both
def test_a_flat_string_is_one_text_and_not_its_characters(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "caption.mat", {"caption": ["a dog", "sky", "é😀"]})
    assert read_captions(tmp_path / "caption.mat", 3) == [("a dog",), ("sky",), ("é😀",)]


@both
def test_empty_texts_are_none(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "caption.mat", {"caption": ["", "   ", "sky"]})
    assert read_captions(tmp_path / "caption.mat", 3) == [(), (), ("sky",)]


def test_a_list_of_strings_that_scipy_saved_as_a_padded_character_matrix_is_read(tmp_path: Path) -> None:
    savemat(tmp_path / "index.mat", {"index": PATHS})
    assert read_paths(tmp_path / "index.mat") == PATHS


def test_captions_of_equal_number_that_scipy_saved_as_a_cube_of_characters_are_read(tmp_path: Path) -> None:
    savemat(tmp_path / "caption.mat", {"caption": [["a", "bb"], ["ccc", "d"], ["e", "f"]]})
    assert read_captions(tmp_path / "caption.mat", 3) == [("a", "bb"), ("ccc", "d"), ("e", "f")]


def test_leading_axes_of_one_are_dropped(tmp_path: Path) -> None:
    row = np.empty((1, 3), dtype=object)
    row[0, :] = [np.array(["a", "b"]), np.array(["c"]), np.array(["d"])]
    savemat(tmp_path / "caption.mat", {"caption": row})
    assert read_captions(tmp_path / "caption.mat", 3) == [("a", "b"), ("c",), ("d",)]


def test_strings_and_bytes_of_numpy_files_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "index.npy", np.array(PATHS))
    assert read_paths(tmp_path / "index.npy") == PATHS
    np.save(tmp_path / "bytes.npy", np.array([path.encode() for path in PATHS]))
    assert read_paths(tmp_path / "bytes.npy") == PATHS


def test_the_content_and_not_the_name_decides_the_format(tmp_path: Path) -> None:
    np.save(tmp_path / "index.npy", np.array(PATHS))
    (tmp_path / "index.npy").rename(tmp_path / "index.mat")
    assert read_paths(tmp_path / "index.mat") == PATHS


def test_plain_hdf5_of_python_is_read_as_it_stands(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "all.mat", "w") as file:
        file["index"] = PATHS
        file["label"] = LABELS
    assert read_paths(tmp_path / "all.mat") == PATHS
    np.testing.assert_array_equal(read_labels(tmp_path / "all.mat", 3), LABELS)


@both
def test_a_label_matrix_on_its_side_is_turned(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "label.mat", {"label": LABELS.T})
    np.testing.assert_array_equal(read_labels(tmp_path / "label.mat", 3), LABELS)


def test_lines_of_a_caption_file_are_rows_and_empty_ones_are_kept(tmp_path: Path) -> None:
    (tmp_path / "caption.txt").write_bytes("\ufeffa dog\r\n\n one\u2028line \n".encode())
    assert read_captions(tmp_path / "caption.txt", 3) == [("a dog",), (), ("one\u2028line",)]


@given(st.lists(st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), max_size=3)))
def test_both_versions_give_back_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("mat") / "caption.mat"
    rows = [*rows, ["last"], ["one", "two"]]
    save73(path, {"caption": rows})
    assert read_captions(path, len(rows)) == [tuple(row) for row in rows]
    save5(path, {"caption": [cells(row) for row in rows]})
    assert read_captions(path, len(rows)) == [tuple(row) for row in rows]


@both
def test_a_missing_key_names_those_that_are_there(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "index.mat", {"paths": PATHS})
    with pytest.raises(ArchiveError, match=r"index\.mat: expected a variable index or imgs or FAll, found paths"):
        read_paths(tmp_path / "index.mat")


@both
def test_a_row_that_is_not_one_path_is_named(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "index.mat", {"index": ["a.jpg", "", "c.jpg"]})
    with pytest.raises(ArchiveError, match=r"index\.mat: index, row 2: expected one path, found \[\]"):
        read_paths(tmp_path / "index.mat")


@both
def test_another_number_of_rows_is_refused(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "caption.mat", {"caption": ["a", "b"]})
    with pytest.raises(ArchiveError, match=r"caption\.mat: caption: expected 3 rows, as many as image paths, found 2"):
        read_captions(tmp_path / "caption.mat", 3)
    save(tmp_path / "label.mat", {"label": LABELS})
    with pytest.raises(ArchiveError, match=r"label\.mat: label: expected 4 rows .* found uint8 \(3, 2\)"):
        read_labels(tmp_path / "label.mat", 4)


def test_another_number_of_lines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "caption.txt").write_text("a\nb\n")
    with pytest.raises(ArchiveError, match=r"caption\.txt: expected 3 lines, as many as image paths, found 2"):
        read_captions(tmp_path / "caption.txt", 3)


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "caption.txt").write_bytes(b"a\ncaf\xe9\n")
    with pytest.raises(ArchiveError, match=r"caption\.txt, line 2: expected UTF-8, found 0xe9"):
        read_captions(tmp_path / "caption.txt", 2)


@both
def test_a_label_beyond_0_and_1_is_named(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "label.mat", {"label": np.array([[1, 0], [0, 2], [1, 1]])})
    with pytest.raises(ArchiveError, match=r"label\.mat: label, row 2, column 2: expected 0 or 1, found 2"):
        read_labels(tmp_path / "label.mat", 3)


def test_a_label_that_is_not_a_number_is_named(tmp_path: Path) -> None:
    savemat(tmp_path / "label.mat", {"label": np.array([[1, 0], [0, np.nan], [1, 1]])})
    with pytest.raises(ArchiveError, match=r"row 2, column 2: expected 0 or 1, found nan"):
        read_labels(tmp_path / "label.mat", 3)


@both
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
def test_a_half_copied_file_is_named(tmp_path: Path, save: Save, share: float) -> None:
    path = tmp_path / "index.mat"
    save(path, {"index": [f"folder/image {number}.jpg" for number in range(300)]})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ArchiveError, match=r"index\.mat: .*copy it again"):
        read_paths(path)


@both
def test_damaged_bytes_end_in_an_error_or_in_the_rows(tmp_path: Path, save: Save) -> None:
    path = tmp_path / "index.mat"
    save(path, {"index": PATHS})
    sound = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(150):
        content = bytearray(sound)
        for position in random.integers(0, len(content), size=3):
            content[position] = random.integers(0, 256)
        path.write_bytes(content)
        with suppress(ArchiveError):  # anything else fails the test
            assert read_paths(path)


@pytest.mark.parametrize("name", ["caption.txt", "index.mat"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchiveError, match=rf"expected a file {name}"):
        read_captions(tmp_path / name, 1)


def test_any_other_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.mat").write_bytes(b"<html>not found</html>")
    with pytest.raises(ArchiveError, match=r"index\.mat: expected a MAT file of version 5 or 7\.3, or \.npy"):
        read_paths(tmp_path / "index.mat")


@pytest.mark.parametrize("chunks", [None, (1_000_000,)])
def test_an_hdf5_file_of_a_kilobyte_that_claims_ten_gigabytes_is_refused(
    tmp_path: Path, chunks: tuple[int] | None
) -> None:
    with h5py.File(tmp_path / "index.mat", "w", libver="latest") as file:
        file.create_dataset("index", (10_000_000_000,), dtype=np.uint8, chunks=chunks)
    assert (tmp_path / "index.mat").stat().st_size < 1_000
    with pytest.raises(ArchiveError, match=r"index: it claims 10,000,000,000 bytes .* found 0 stored"):
        read_paths(tmp_path / "index.mat")


def test_a_cell_that_refers_to_its_own_list_ends(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "index.mat", "w") as file:
        dataset = file.create_dataset("index", (2,), dtype=h5py.ref_dtype)
        dataset[:] = [dataset.ref, dataset.ref]
    with pytest.raises(ArchiveError, match=r"expected cells at most 3 deep"):
        read_paths(tmp_path / "index.mat")


def test_many_references_to_one_large_text_run_out_of_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.data.mat73.MAX_BYTES", 100_000)
    with h5py.File(tmp_path / "index.mat", "w") as file:
        text = file.create_dataset("#refs#/a", data=np.full((5_000, 1), 65, dtype=np.uint16))
        text.attrs["MATLAB_class"] = b"char"
        file.create_dataset("index", data=np.array([text.ref] * 50, dtype=h5py.ref_dtype))
    with pytest.raises(ArchiveError, match=r"expected variables of at most 100,000 bytes"):
        read_paths(tmp_path / "index.mat")


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"A" * 64)
    with h5py.File(tmp_path / "other.mat", "w") as file:
        file["index"] = PATHS
    with h5py.File(tmp_path / "link.mat", "w") as file:
        file["index"] = h5py.ExternalLink("other.mat", "index")
    with h5py.File(tmp_path / "external.mat", "w") as file:
        file.create_dataset("index", (64,), dtype="S1", external=[(str(tmp_path / "secret"), 0, 64)])
    for name in ("link.mat", "external.mat"):
        with pytest.raises(ArchiveError, match=r"expected the data itself, found a link"):
            read_paths(tmp_path / name)


def test_objects_of_numpy_files_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "index.npy", np.array([PATHS], dtype=object), allow_pickle=True)
    with pytest.raises(ArchiveError, match=r"index\.npy: .*save strings as an array of strings"):
        read_paths(tmp_path / "index.npy")


def test_a_numpy_file_that_claims_ten_gigabytes_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "index.npy", np.array(PATHS))
    content = (tmp_path / "index.npy").read_bytes()
    (tmp_path / "index.npy").write_bytes(content.replace(b"(3,), }        ", b"(300000000,), }"))
    with pytest.raises(ArchiveError, match=r"index\.npy: "):
        read_paths(tmp_path / "index.npy")


def element(kind: int, data: bytes, size: int | None = None) -> bytes:
    return struct.pack("<2I", kind, len(data) if size is None else size) + data + bytes(-len(data) % 8)


def matrix(kind: int, shape: tuple[int, ...], content: bytes, name: bytes = b"") -> bytes:
    sizes = struct.pack(f"<{len(shape)}i", *shape)
    return element(14, element(6, struct.pack("<2I", kind, 0)) + element(5, sizes) + element(1, name) + content)


def write5(path: Path, *elements: bytes) -> Path:
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(elements))
    return path


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (matrix(1, (2**30, 2**30), b"", b"index"), r"index: it claims 1,152,921,504,606,846,976 cells in 0 bytes"),
        (matrix(4, (2**30, 9), element(4, b"ab"), b"index"), r"index: it claims 9,663,676,416 characters in 2 bytes"),
        (matrix(9, (-1, 2), b"", b"index"), r"index: expected sizes of at least 0"),
        (matrix(4, (1, 2), element(4, b"ab", 4_000_000_000), b"index"), r"index: it claims 4,000,000,000 bytes"),
        (element(14, b"", 4_000_000_000), r"a variable: it claims 4,000,000,000 bytes"),
        (matrix(2, (1, 1), b"", b"index"), r"index: expected numbers, texts or cells, found array class 2"),
        (element(15, b"no zlib stream"), r"a packed variable: .*header"),
    ],
    ids=["cells", "characters", "negative", "bytes", "variable", "structure", "packed"],
)
def test_claims_beyond_the_bytes_of_a_version_5_file_are_refused(tmp_path: Path, value: bytes, message: str) -> None:
    with pytest.raises(ArchiveError, match=message):
        read_paths(write5(tmp_path / "index.mat", value))


def test_cells_in_cells_without_end_are_refused(tmp_path: Path) -> None:
    value = matrix(4, (1, 1), element(4, b"a\0"))
    for _ in range(2_000):
        value = matrix(1, (1, 1), value)
    with pytest.raises(ArchiveError, match=r"expected cells at most 3 deep"):
        read_paths(write5(tmp_path / "index.mat", matrix(1, (1, 1), value, b"index")))


def test_a_packed_variable_that_swells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.data.mat5.MAX_BYTES", 5_000_000)
    with pytest.raises(ArchiveError, match=r"expected variables of at most 5,000,000 bytes, found more"):
        read_paths(write5(tmp_path / "index.mat", element(15, zlib.compress(bytes(50_000_000)))))
