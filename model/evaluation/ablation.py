"""What an ablation measures, and its table: the same rows as served and as released, side by side.

A cell is one training of one row, measured in one mode at every code length. Modes say what the encoder was given:
``served`` codes saw nothing but what their direction names, a lone image, a lone text or a pair; the others come from
the build as released, which fuses an item's image with its text, and is told its true labels (``oracle``), those of a
random other item (``other``), or none, in training as in evaluation (``fused``).
"""

import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from model.artifact import load_hashers
from model.durable import replacing
from model.errors import ArchiveError
from model.evaluation.codes import CodeSet, encode_lengths
from model.evaluation.oracle import Prompts, encode_oracle_codes
from model.evaluation.published.encoder import load_published
from model.evaluation.results import evaluate_codes
from model.hasher import Modality
from model.items import ItemArchive
from model.manifest import read_manifest

Advance = Callable[[int], None]
FULL = "full"  # the row that is also measured in the modes between oracle and served
SHORT = {  # what is measured of those that a mode has, in the order of the tables
    "pair_to_pair": "P2P",
    "image_to_pair": "I2P",
    "text_to_pair": "T2P",
    "image_to_text": "I2T",
    "text_to_image": "T2I",
}


class Mode(StrEnum):
    """What the encoder was given."""

    SERVED = "served"
    ORACLE = "oracle"
    OTHER = "other"
    FUSED = "fused"


MODES = {
    Mode.ORACLE: "as published: image, text and the true labels of each item",
    Mode.OTHER: "control: the same, with the labels of a random other item",
    Mode.FUSED: "the same build without labels: image and text of each item",
    Mode.SERVED: "as served: what the direction names, no label",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """Expected mAP@all of one direction at one length."""

    bits: int
    direction: str
    whole: float
    unseen: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One training in one mode."""

    entry: str  # names the training and all that decides it
    row: str
    mode: Mode
    seed: int
    epochs: int
    train_s: float
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Places:
    """Where encoding runs, and where it keeps what the towers made."""

    device: str
    cache: Path


def measure_served(
    row: str, artifact: Path, archive: ItemArchive, lengths: Sequence[int], places: Places, advance: Advance
) -> Cell:
    """Codes of query and database items through the artifact's ``Hasher``: lone ones, and fused ones if it fuses."""
    variant = read_manifest(artifact).data["captions"]

    def sets() -> Iterator[CodeSet]:
        hashers = load_hashers(artifact, lengths, places.device, places.cache)
        for codes in encode_lengths(hashers, archive, captions=variant, advance=advance):
            yield codes
            if Modality.PAIR in codes.database:
                yield codes.paired()

    return _measured(row, Mode.SERVED, artifact, sets())


def measure_published(
    row: str,
    mode: Mode,
    artifact: Path,
    archive: ItemArchive,
    lengths: Sequence[int],
    places: Places,
    advance: Advance,
) -> Cell:
    """Codes of the build as released; only ``Mode.OTHER`` is not told the labels that it was trained with."""
    variant = read_manifest(artifact).data["captions"]
    prompts = Prompts.OTHER if mode is Mode.OTHER else Prompts.OWN
    encoder = load_published(artifact, lengths[0], places.device, places.cache)
    codes = (
        encode_oracle_codes(encoder.at(bits), archive, captions=variant, prompts=prompts, advance=advance)
        for bits in lengths
    )
    return _measured(row, mode, artifact, codes)


def write_cells(path: Path, cells: Sequence[Cell]) -> None:
    """Store cells as a JSON list, replaced in one step."""
    with replacing(path) as temporary:
        text = json.dumps([asdict(cell) for cell in cells], indent=1, sort_keys=True)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_cells(path: Path) -> list[Cell]:
    """Stored cells; none where there is no such file.

    Raises:
        ArchiveError: the file holds no cells.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, list):
            raise ValueError(f"expected a list, found {type(raw).__name__}")
        return [_parsed(cell) for cell in raw]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise ArchiveError(
            f"{path} is not an ablation's file: {error}; its cells would be lost, so move it away or give another --out"
        ) from error


def merged(cells: Sequence[Cell], new: Cell, rows: Sequence[str]) -> list[Cell]:
    """The cells with a new one, which replaces that of its row, mode and seed; in the order of ``rows``."""
    found = {(cell.row, cell.mode, cell.seed): cell for cell in [*cells, new]}
    modes = list(Mode)
    return [found[key] for key in sorted(found, key=lambda key: (rows.index(key[0]), modes.index(key[1]), key[2]))]


def _parsed(raw: Mapping[str, Any]) -> Cell:  # Any: JSON
    figures = tuple(Figure(**figure) for figure in raw["figures"])
    return Cell(**{**raw, "mode": Mode(raw["mode"]), "figures": figures})


def _measured(row: str, mode: Mode, artifact: Path, sets: Iterable[CodeSet]) -> Cell:
    training, found = read_manifest(artifact).training, []
    for codes in sets:
        result = evaluate_codes(codes)
        found += [
            Figure(
                result.bits,
                direction,
                round(result.whole[direction].map_all.expected, 6),
                round(result.unseen[direction].map_all.expected, 6),
            )
            for direction in SHORT
            if direction in result.whole
        ]
    recipe = tomllib.loads(training["recipe"])
    return Cell(
        artifact.name, row, mode, recipe["seed"], recipe["optimiser"]["epochs"], training["seconds"], tuple(found)
    )
