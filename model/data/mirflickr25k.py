"""MIRFLICKR-25K: 25,000 Flickr photographs with their tags, and 24 labels of what can be seen or was meant.

Official downloads: ``mirflickr25k.zip`` (``im1.jpg`` …, ``meta/tags/tags1.txt`` …) and
``mirflickr25k_annotations_v080.zip`` (``sky.txt``, ``sky_r1.txt`` …: numbers of images). Labels are the 24 potential
ones; the stricter ``_r1`` lists are not used by the hashing papers. Items without any label are left out: 24,581 stay.
"""

import re
from pathlib import Path

import numpy as np
from rich.progress import Progress

from model.data.benchmark import Benchmark, Variant
from model.data.columns import Inside
from model.data.downloads import find_files
from model.data.layout import Rows
from model.data.matlab import read_lines
from model.data.splits import PublishedRule
from model.errors import ArchiveError

CLASS_NAMES = (
    *("animals", "baby", "bird", "car", "clouds", "dog", "female", "flower", "food", "indoor", "lake", "male"),
    *("night", "people", "plant_life", "portrait", "river", "sea", "sky", "structures", "sunset", "transport"),
    *("tree", "water"),
)
RELEASED = (  # of the label files that go with PGHMH; inferred from class totals and containments
    *("male", "dog", "female", "tree", "river", "portrait", "flower", "animals", "night", "lake", "sunset", "car"),
    *("sky", "bird", "plant_life", "transport", "people", "water", "sea", "structures", "clouds", "food", "baby"),
    "indoor",
)
INSIDE = tuple(  # 0.99 and more in the released labels; under half where columns are swapped
    Inside(inner, outer, 0.95)
    for inner, outer in (
        *(("male", "people"), ("female", "people"), ("baby", "people"), ("dog", "animals"), ("bird", "animals")),
        *(("car", "transport"), ("sea", "water"), ("lake", "water"), ("river", "water"), ("flower", "plant_life")),
        *(("tree", "plant_life"), ("clouds", "sky")),
    )
)
_TAGS = re.compile(r"tags(\d{1,7})\.txt")


def read_downloads(folder: Path, progress: Progress) -> Rows:
    """The labelled images in the order of their numbers; a caption is an image's tags, joined by blanks.

    Raises:
        ArchiveError: a file is missing, or a list holds what is no image's number.
    """
    lists = find_files(folder, ["tags/tags1.txt", *(f"{name}.txt" for name in CLASS_NAMES)], "MIRFLICKR-25K")
    tags = {
        int(match[1]): path
        for path in lists.pop("tags/tags1.txt").parent.iterdir()
        if (match := _TAGS.fullmatch(path.name))
    }
    numbers = sorted(tags)
    row_of = {number: row for row, number in enumerate(numbers)}
    labels = np.zeros((len(numbers), len(CLASS_NAMES)), dtype=np.uint8)
    for column, name in enumerate(CLASS_NAMES):
        labels[_listed(lists[f"{name}.txt"], row_of), column] = 1
    kept = np.flatnonzero(labels.any(axis=1))
    chosen = [numbers[row] for row in kept]
    captions = [_caption(tags[number]) for number in progress.track(chosen, description="reading tags")]
    return Rows([f"im{number}.jpg" for number in chosen], captions, labels[kept], CLASS_NAMES)


def _listed(path: Path, row_of: dict[int, int]) -> list[int]:
    rows = []
    for line, text in enumerate(read_lines(path), start=1):
        if text.strip():
            number = int(text) if text.strip().isdecimal() else -1
            if number not in row_of:
                raise ArchiveError(f"{path.name}, line {line}: expected the number of an image, found {text!r:.40}")
            rows.append(row_of[number])
    return rows


def _caption(path: Path) -> tuple[str, ...]:
    text = " ".join(" ".join(read_lines(path)).split())
    return (text,) if text else ()


BENCHMARK = Benchmark(
    name="mirflickr25k",
    title="MIRFLICKR-25K",
    source="press.liacs.nl/mirflickr (Huiskes and Lew, 2008), annotations v080",
    licence="each photograph its own Creative Commons licence (meta/license)",
    layout="flickr25k",
    orders={"alphabetical": CLASS_NAMES, "released with PGHMH": RELEASED},
    inside=INSIDE,
    variants={
        24_581: Variant("all labelled items, as in PromptHash and PGHMH"),
        20_015: Variant("labelled and with frequent tags, as in DCMH"),
    },
    split=PublishedRule(query=2_000, train=10_000, validation=1_000),
    caption_lines=False,
    from_downloads=read_downloads,
)
DATA_SET = BENCHMARK.data_set()
