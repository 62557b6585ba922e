"""Golden codes: shipped inputs have these codes on every machine, in every process and number of threads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import golden
import numpy as np
import pytest

from model.artifact import ArtifactHasher
from model.bulk import encode_in_bulk
from model.hasher import EncodedBatch
from model.images import decode_image
from model.items import ItemArchive
from model.margins import MARGIN_RULE, Flips, count_flips

SCRIPT = Path(golden.__file__)


@pytest.fixture(scope="module")
def hasher() -> ArtifactHasher:
    return golden.golden_hasher()


@pytest.fixture(scope="module")
def made(hasher: ArtifactHasher, archive: ItemArchive) -> dict[str, EncodedBatch]:
    codes = golden.golden_codes()
    return golden.encode(hasher, archive, list(codes["images"]), list(codes["texts"]))


def stored(kind: str) -> np.ndarray:
    return np.array([list(bytes.fromhex(code)) for code in golden.golden_codes()[kind].values()], dtype=np.uint8)


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_golden_inputs_have_their_codes_and_margins_above_the_rule(made: dict[str, EncodedBatch], kind: str) -> None:
    assert len(made[kind]) == golden.INPUTS
    assert made[kind].margins.min() > MARGIN_RULE * made[kind].margins.mean()
    assert count_flips(made[kind], stored(kind)) == Flips(golden.INPUTS * golden.BITS, 0, 0)


def test_another_instruction_set_flips_no_bit_above_the_margin() -> None:
    older = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
    command = [sys.executable, "-W", "ignore", str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | older)
    assert json.loads(done.stdout) == {kind: list(codes.values()) for kind, codes in golden.golden_codes().items()}


@pytest.mark.parametrize("workers", [1, 2])
def test_codes_do_not_depend_on_how_many_threads_encode(
    hasher: ArtifactHasher, archive: ItemArchive, workers: int
) -> None:
    items = {item.id: item for item in archive.items}
    names = list(golden.golden_codes()["images"])
    encoded = encode_in_bulk(
        hasher, names, lambda name: decode_image(archive.read_image(items[name])), batch=3, workers=workers
    )
    assert np.array_equal(encoded.codes, stored("images"))


def batch(margins: list[float]) -> EncodedBatch:
    return EncodedBatch(np.zeros((1, 1), np.uint8), np.array([margins], np.float32), np.zeros(1, np.int64))


def test_flips_are_told_apart_by_their_margin() -> None:
    reference = batch([1, 1, 1, 1, 1, 1, 1, 1e-6])
    flips = count_flips(reference, np.array([[0b1000_0001]], dtype=np.uint8))  # bits 0 and 7
    assert flips == Flips(bits=8, below=1, above=1)
    assert flips.per_million == 250_000


def test_equal_codes_have_no_flips() -> None:
    assert count_flips(batch([1.0] * 8), np.zeros((1, 1), np.uint8)).per_million == 0
