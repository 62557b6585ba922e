"""Codes made elsewhere, in every form that this field publishes them, and files that are not what they claim."""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray

from model.errors import CodeFileError
from model.evaluation import code_files
from model.evaluation.code_files import Role, parse_keys, read_codes
from model.hasher import Modality

Arrays = Mapping[str, NDArray[Any]]
Write = Callable[[Path, Arrays], None]
BITS = np.random.default_rng(0).random((20, 16)) < 0.5
LABELS = np.random.default_rng(1).random((20, 10)) < 0.3
Q = 5
PACKED = np.packbits(BITS, axis=1, bitorder="little")
FUSED = {
    "query_codes": BITS[:Q],
    "retrieval_codes": BITS[Q:],
    "query_labels": LABELS[:Q],
    "retrieval_labels": LABELS[Q:],
}
SHORT = dict(zip(("qB", "rB", "qL", "rL"), FUSED.values(), strict=True))
CROSS = {
    "q_img": BITS[:Q],
    "q_txt": ~BITS[:Q],
    "r_img": BITS[Q:],
    "r_txt": ~BITS[Q:],
    "q_l": LABELS[:Q],
    "r_l": LABELS[Q:],
}


def mat5(path: Path, arrays: Arrays) -> None:
    scipy.io.savemat(path, dict(arrays), do_compression=True)


def mat73(path: Path, arrays: Arrays) -> None:
    """As MATLAB writes: column by column, with the class as an attribute."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values.T).attrs["MATLAB_class"] = np.bytes_(b"double")


def hdf5(path: Path, arrays: Arrays) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values


def sideways(path: Path, arrays: Arrays) -> None:
    hdf5(path, {name: values.T for name, values in arrays.items()})


def npz(path: Path, arrays: Arrays) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def signs(arrays: Arrays) -> dict[str, NDArray[np.float64]]:
    """Codes in {-1, +1}, labels in {0, 1}."""
    return {
        name: values * 1.0 if name.lower().endswith(("labels", "l")) else np.where(values, 1.0, -1.0)
        for name, values in arrays.items()
    }


def zeros_and_ones(arrays: Arrays) -> dict[str, NDArray[np.int8]]:
    return {name: values.astype(np.int8) for name, values in arrays.items()}


@pytest.mark.parametrize("write", [mat5, mat73, hdf5, sideways, npz])
@pytest.mark.parametrize("form", [signs, zeros_and_ones])
@pytest.mark.parametrize("arrays", [FUSED, SHORT], ids=["long", "short"])
def test_fused_codes_are_pairs(tmp_path: Path, write: Write, form: Callable[[Arrays], Arrays], arrays: Arrays) -> None:
    write(tmp_path / "codes", form(arrays))
    codes = read_codes(tmp_path / "codes")
    assert list(codes.directions) == ["pair_to_pair"]
    assert np.array_equal(codes.queries[Modality.PAIR], PACKED[:Q])
    assert np.array_equal(codes.database[Modality.PAIR], PACKED[Q:])
    assert np.array_equal(codes.query_labels, LABELS[:Q])
    assert np.array_equal(codes.database_labels, LABELS[Q:])
    assert codes.order.tolist() == list(range(15))
    assert codes.bits == 16


@pytest.mark.parametrize("write", [mat5, mat73, npz])
def test_image_and_text_codes_give_four_directions(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "codes", signs(CROSS))
    codes = read_codes(tmp_path / "codes")
    assert list(codes.directions) == ["image_to_image", "image_to_text", "text_to_image", "text_to_text"]
    assert np.array_equal(codes.queries[Modality.TEXT], ~PACKED[:Q])


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("said", [True, False])
def test_packed_codes_and_labels_in_both_bit_orders(tmp_path: Path, order: Any, said: bool) -> None:  # noqa: ANN401 - Literal
    packed = {name: np.packbits(values, axis=1, bitorder=order) for name, values in FUSED.items()}
    npz(tmp_path / "codes.npz", {**packed, "bitorder": np.array(order)} if said else packed)
    codes = read_codes(tmp_path / "codes.npz", bit_order=None if said else order)
    assert np.array_equal(codes.queries[Modality.PAIR], PACKED[:Q])
    assert np.array_equal(codes.database_labels[:, :10], LABELS[Q:])
    assert not codes.database_labels[:, 10:].any()


def test_packed_codes_beside_plain_labels(tmp_path: Path) -> None:
    npz(tmp_path / "codes.npz", {**FUSED, "query_codes": PACKED[:Q], "retrieval_codes": PACKED[Q:]})
    codes = read_codes(tmp_path / "codes.npz")
    assert np.array_equal(codes.database[Modality.PAIR], PACKED[Q:])
    assert np.array_equal(codes.query_labels, LABELS[:Q])


def test_other_names_are_given_by_role(tmp_path: Path) -> None:
    renamed = dict(zip(("a", "b", "c", "d"), zeros_and_ones(FUSED).values(), strict=True))
    mat5(tmp_path / "codes.mat", renamed)
    keys = parse_keys(["query_image=a", "database_text=b", "query_labels=c", "database_labels=d"])
    assert list(read_codes(tmp_path / "codes.mat", keys).directions) == ["image_to_text"]
    with pytest.raises(CodeFileError, match="expected a variable q_l or qL or query_labels, found a, b, c, d"):
        read_codes(tmp_path / "codes.mat")


@pytest.mark.parametrize("entry", ["query=a", "query_pair", "query_pair=", "=a"])
def test_a_name_for_no_role_lists_the_roles(entry: str) -> None:
    with pytest.raises(CodeFileError, match="expected ROLE=NAME with a role of query_image, query_text"):
        parse_keys([entry])


def test_names_for_one_side_alone_are_refused(tmp_path: Path) -> None:
    npz(tmp_path / "codes.npz", FUSED)
    with pytest.raises(CodeFileError, match="expected names for codes and labels of both sides"):
        read_codes(tmp_path / "codes.npz", {Role.QUERY_PAIR: "query_codes", Role.QUERY_LABELS: "query_labels"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"query_codes": np.full((Q, 16), 2.0)},
            r"query_pair, row 1, column 1: expected only -1 and 1 there, found 2.0",
        ),
        ({"query_codes": np.full((Q, 16), np.nan)}, "expected only -1 and 1 there, found nan"),
        ({"query_codes": BITS[:Q, :12]}, "expected a multiple of 8 bits, found 12"),
        ({"query_codes": BITS[:Q, :8]}, r"expected codes of one length up to 4096 bits, found \[8, 16\]"),
        ({"query_codes": BITS[: Q - 1]}, "expected a row of labels for each code, found 4 rows of query_pair and 5 of"),
        ({"query_labels": LABELS[:Q] * 3}, "expected only 0 and 1 there, found 3"),
        ({"query_labels": LABELS[:Q, :9]}, "expected at most 1,000 classes, the same for .* found 9 and 10"),
        ({"query_codes": np.array("text")}, "expected a matrix of numbers"),
        ({"query_codes": np.ones(16)}, r"expected a matrix of numbers, a row an item, found float64 \(16,\)"),
        ({"query_codes": np.ones((0, 16))}, "expected a matrix of numbers"),
        ({"bitorder": np.array("middle")}, "expected a bitorder of big or little, found middle"),
        ({"bitorder": np.array(1)}, "expected a bitorder of big or little"),
    ],
)
def test_matrices_that_do_not_fit_are_refused_by_name(tmp_path: Path, changes: Arrays, message: str) -> None:
    npz(tmp_path / "codes.npz", {**FUSED, **changes})
    with pytest.raises(CodeFileError, match=f"codes.npz.*{message}"):
        read_codes(tmp_path / "codes.npz")


def test_a_bit_order_against_the_archives_own_is_refused(tmp_path: Path) -> None:
    npz(tmp_path / "codes.npz", {**FUSED, "bitorder": np.array("little")})
    with pytest.raises(CodeFileError, match="expected a bitorder of big, found little in the archive"):
        read_codes(tmp_path / "codes.npz", bit_order="big")


def test_a_bit_order_for_a_mat_file_is_refused(tmp_path: Path) -> None:
    mat5(tmp_path / "codes.mat", signs(FUSED))
    with pytest.raises(CodeFileError, match="MAT files hold one value a bit"):
        read_codes(tmp_path / "codes.mat", bit_order="big")


def member(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def hostile(path: Path, content: bytes) -> None:
    """An archive whose query labels are these bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("query_labels.npy", content)
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (member(b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 8), }\n"), "its header claims"),
        (member(b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -8), }\n", b"12345678"), "its header claims"),
        (member(b"{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }\n", b"\x80\x04."), "expected numbers"),
        (member(b"{'descr': '|u1'"), "query_labels"),
        (b"\x93NUMPY\x09\x00", "expected an array of format 1.0 or 2.0, found 9.0"),
        (b"", "query_labels"),
    ],
)
def test_arrays_that_claim_more_than_they_hold_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    hostile(tmp_path / "codes.npz", content)
    with pytest.raises(CodeFileError, match=message):
        read_codes(tmp_path / "codes.npz")


def test_what_would_unpack_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npz(tmp_path / "codes.npz", {**FUSED, "query_labels": np.zeros((100, 10_000), np.uint8)})
    monkeypatch.setattr(code_files, "MAX_BYTES", 100_000)
    with pytest.raises(CodeFileError, match="expected arrays of at most 100,000 bytes, found more"):
        read_codes(tmp_path / "codes.npz")


def test_a_file_beyond_the_limit_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npz(tmp_path / "codes.npz", FUSED)
    monkeypatch.setattr(code_files, "MAX_BYTES", 100)
    with pytest.raises(CodeFileError, match="expected a file of at most 100 bytes"):
        read_codes(tmp_path / "codes.npz")


@pytest.mark.parametrize("write", [mat5, mat73, npz])
@pytest.mark.parametrize("keep", [0.0, 0.2, 0.5, 0.9])
def test_a_file_cut_off_is_refused(tmp_path: Path, write: Write, keep: float) -> None:
    write(tmp_path / "whole", signs(FUSED))
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(CodeFileError, match="cut"):
        read_codes(tmp_path / "cut")


@pytest.mark.parametrize("write", [mat5, mat73, npz])
def test_a_damaged_byte_is_refused_or_harmless(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "whole", signs(FUSED))
    content = (tmp_path / "whole").read_bytes()
    messages = []
    for position in np.random.default_rng(5).integers(0, len(content), 60):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            read_codes(tmp_path / "damaged")
        except CodeFileError as error:
            messages.append(str(error))
    assert messages
    assert all("damaged" in message for message in messages)


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04pickle", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"])
def test_what_is_no_file_of_codes_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "codes.mat").write_bytes(content)
    with pytest.raises(CodeFileError, match=r"codes\.mat"):
        read_codes(tmp_path / "codes.mat")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CodeFileError, match=r"expected a file of codes at .*none\.npz: No such file"):
        read_codes(tmp_path / "none.npz")
