"""NUS-WIDE: 269,648 Flickr photographs with their tags and 81 concepts, of which the papers take the 21 most frequent.

Official downloads: ``Imagelist.txt``, ``AllLabels/Labels_sky.txt`` … (a 0 or 1 for each image) and ``All_Tags.txt`` (an
image's photo id and tags in each line), all in the same order. Items without any of the 21 are left out: 195,834 stay.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from model.data.benchmark import Benchmark, Variant
from model.data.columns import Inside
from model.data.downloads import find_files
from model.data.layout import Rows
from model.data.matlab import read_lines
from model.data.splits import PublishedRule
from model.errors import ArchiveError

CLASS_NAMES = (
    *("animal", "beach", "buildings", "clouds", "flowers", "grass", "lake", "mountain", "ocean", "person", "plants"),
    *("reflection", "road", "rocks", "sky", "snow", "sunset", "tree", "vehicle", "water", "window"),
)
MOST_FREQUENT_10 = ("sky", "clouds", "person", "water", "animal", "grass", "buildings", "window", "plants", "lake")
# shares are lenient: annotators marked concepts one by one, and only columns that are swapped shall fail
INSIDE = tuple(
    Inside(inner, outer, 0.5)
    for inner, outer in (("clouds", "sky"), ("sunset", "sky"), ("ocean", "water"), ("lake", "water"))
)


def read_downloads(folder: Path, progress: Progress) -> Rows:
    """The images with at least one of the 21 concepts, in list order; a caption is the line of an image's tags.

    Raises:
        ArchiveError: a file is missing, has another number of lines, or a line is wrong; the message names it.
    """
    label_files = {name: f"AllLabels/Labels_{name}.txt" for name in CLASS_NAMES}
    files = find_files(folder, ["Imagelist.txt", "All_Tags.txt", *label_files.values()], "NUS-WIDE")
    paths = [line.strip().replace("\\", "/") for line in read_lines(files["Imagelist.txt"])]
    captions = _read_tags(files["All_Tags.txt"], paths)
    labels = np.zeros((len(paths), len(CLASS_NAMES)), dtype=np.uint8)
    for column, name in enumerate(progress.track(CLASS_NAMES, description="reading labels")):
        labels[:, column] = _read_labels(files[label_files[name]], len(paths))
    kept = np.flatnonzero(labels.any(axis=1))
    return Rows([paths[row] for row in kept], [captions[row] for row in kept], labels[kept], CLASS_NAMES)


def _read_labels(path: Path, rows: int) -> NDArray[np.uint8]:
    lines = _lines(path, rows)
    values = {"0": 0, "1": 1}
    try:
        return np.fromiter((values[line.strip()] for line in lines), dtype=np.uint8, count=rows)
    except KeyError as error:
        number = next(number for number, line in enumerate(lines, start=1) if line.strip() not in values)
        raise ArchiveError(f"{path.name}, line {number}: expected 0 or 1, found {error}") from error


def _read_tags(path: Path, paths: list[str]) -> list[tuple[str, ...]]:
    captions: list[tuple[str, ...]] = []
    for number, (line, image) in enumerate(zip(_lines(path, len(paths)), paths, strict=True), start=1):
        photo, *tags = line.split() or [""]
        if photo != image.rpartition("_")[2].partition(".")[0]:
            raise ArchiveError(
                f"{path.name}, line {number}: expected the photo id of {image!r:.80} and its tags, found {photo!r:.40}"
                "; the lines must be in the order of Imagelist.txt"
            )
        captions.append((" ".join(tags),) if tags else ())
    return captions


def _lines(path: Path, rows: int) -> list[str]:
    lines = read_lines(path)
    if len(lines) != rows:
        raise ArchiveError(f"{path.name}: expected {rows:,} lines, as many as in Imagelist.txt, found {len(lines):,}")
    return lines


BENCHMARK = Benchmark(
    name="nuswide",
    title="NUS-WIDE",
    source="lms.comp.nus.edu.sg, NUS-WIDE (Chua et al., CIVR 2009)",
    licence="photographs: each its own, of Flickr; lists: research use",
    layout="nuswide",
    orders={"alphabetical": CLASS_NAMES, "10, by frequency": MOST_FREQUENT_10, "10": tuple(sorted(MOST_FREQUENT_10))},
    inside=INSIDE,
    variants={
        195_834: Variant("all items with one of 21 labels, as in PromptHash and DCHMT"),
        192_779: Variant("as in PGHMH", PublishedRule(query=2_000, train=10_000, validation=1_000)),
        190_421: Variant("with tags, as in MITH and CMCL"),
        186_577: Variant("with tags, as in DCMH"),
    },
    split=PublishedRule(query=2_100, train=10_500, validation=1_000),
    caption_lines=True,
    from_downloads=read_downloads,
)
DATA_SET = BENCHMARK.data_set()
