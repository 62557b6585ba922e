"""MS COCO 2017, train and val together: photographs with about five captions each and 80 classes of objects.

Official downloads: ``instances_train2017.json``, ``instances_val2017.json``, ``captions_train2017.json`` and
``captions_val2017.json``. Items without any object are left out: 122,218 of 123,287 stay.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from model.data.benchmark import Benchmark, Variant
from model.data.columns import Inside
from model.data.downloads import find_files
from model.data.layout import Rows
from model.data.splits import PublishedRule
from model.errors import ArchiveError

CLASS_NAMES = (  # in the order of COCO's category ids, which leave gaps
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)
PARTS = ("train2017", "val2017")
MAX_JSON_BYTES = 2**30  # instances_train2017.json has 448 MB
# no class lies inside another, but these are hardly ever photographed without somebody
INSIDE = tuple(
    Inside(inner, "person", 0.7)
    for inner in ("skis", "snowboard", "skateboard", "surfboard", "baseball bat", "baseball glove", "tennis racket")
)


def read_downloads(folder: Path, progress: Progress) -> Rows:
    """The images with an object, train before val and by image id; captions in the order of their ids.

    Raises:
        ArchiveError: a file is missing, no JSON of this kind, or names another image or class.
    """
    files = find_files(
        folder, [f"{kind}_{part}.json" for part in PARTS for kind in ("instances", "captions")], "MS COCO"
    )
    paths: list[str] = []
    captions: list[tuple[str, ...]] = []
    labels: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    for part in progress.track(PARTS, description="reading annotations"):
        instances = _read(files[f"instances_{part}.json"], int)
        texts = _read(files[f"captions_{part}.json"], str)
        column_of = _columns(instances, f"instances_{part}.json")
        rows = {image: np.zeros(len(CLASS_NAMES), dtype=np.uint8) for image in sorted(instances["images"])}
        sentences: dict[int, list[str]] = {image: [] for image in rows}
        try:
            for _, image, category in instances["annotations"]:
                rows[image][column_of[category]] = 1
            for _, image, text in sorted(texts["annotations"]):
                sentences[image].append(" ".join(text.split()))
        except KeyError as error:
            raise ArchiveError(f"{part}: an annotation names image or category {error}, which is not listed") from error
        for image, row in rows.items():
            if row.any():
                paths.append(f"{part}/{instances['images'][image]}")
                captions.append(tuple(filter(None, sentences[image])))
                labels.append(row)
    if not labels:
        raise ArchiveError(f"MS COCO: expected images with an object in {' and '.join(PARTS)}, found none")
    return Rows(paths, captions, np.stack(labels), CLASS_NAMES)


def _read(path: Path, kind: type[int] | type[str]) -> dict[str, Any]:  # Any: the lists of the file, entries shortened
    """Images by id, categories by id, and annotations as (id, image id, category id or caption: of this kind)."""
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise ArchiveError(f"{path.name}: expected at most {MAX_JSON_BYTES:,} bytes, found {size:,}")
    try:
        with path.open("rb") as file:
            raw = json.load(file, object_hook=_shorten)
        images, categories, annotations = raw["images"], raw.get("categories", []), raw["annotations"]
        for entry in (*images, *categories):
            if type(entry) is not tuple or len(entry) != 2:
                raise ValueError(f"an image or category {entry!r:.80}")
        for entry in annotations:
            if type(entry) is not tuple or type(entry[-1]) is not kind:
                raise ValueError(f"an annotation {entry!r:.80}")
        return {"images": dict(images), "categories": dict(categories), "annotations": annotations}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArchiveError(f"{path.name}: expected COCO's annotations, found {error!r:.200}; copy it again") from error


def _shorten(entry: dict[str, Any]) -> object:
    # outlines are most of the file: kept, they would take gigabytes
    match entry:
        case {"id": int(key), "image_id": int(image), "category_id": int(category)}:
            return key, image, category
        case {"id": int(key), "image_id": int(image), "caption": str(text)}:
            return key, image, text
        case {"id": int(key), "file_name": str(name)} | {"id": int(key), "name": str(name), "supercategory": str()}:
            return key, name
    return entry


def _columns(instances: dict[str, Any], where: str) -> dict[int, int]:
    categories = sorted(instances["categories"].items())
    names = tuple(name for _, name in categories)
    if names != CLASS_NAMES:
        wrong = next((name for name in names if name not in CLASS_NAMES), "another order")
        raise ArchiveError(f"{where}: expected the 80 categories of 2017, found {len(names)} with {wrong!r:.60}")
    return {category: column for column, (category, _) in enumerate(categories)}


BENCHMARK = Benchmark(
    name="coco",
    title="MS COCO 2017",
    source="cocodataset.org, 2017 train and val (Lin et al., ECCV 2014)",
    licence="annotations CC BY 4.0; photographs each its own, of Flickr",
    layout="coco",
    orders={"category id": CLASS_NAMES},
    inside=INSIDE,
    variants={122_218: Variant("all items with an object, as in PromptHash, PGHMH and DCHMT")},
    split=PublishedRule(query=5_000, train=10_000, validation=1_000),
    caption_lines=False,
    from_downloads=read_downloads,
)
DATA_SET = BENCHMARK.data_set()
