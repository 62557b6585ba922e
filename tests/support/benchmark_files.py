"""Miniatures of the benchmarks' official downloads and passed-on files."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from model.data.coco import CLASS_NAMES as COCO_CLASSES
from model.data.mirflickr25k import CLASS_NAMES as MIRFLICKR_CLASSES
from model.data.nuswide import CLASS_NAMES as NUSWIDE_CLASSES


def write_image(path: Path, number: int) -> None:
    """A different small picture for each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (number % 256, number // 256, 7)).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())


def cells(values: Sequence[object]) -> NDArray[np.object_]:
    """An N x 1 cell array."""
    array = np.empty((len(values), 1), dtype=object)
    for row, value in enumerate(values):
        array[row, 0] = value
    return array


def write_layout(
    folder: Path, paths: Sequence[str], captions: Sequence[object], labels: NDArray[np.uint8], *, lines: bool = False
) -> None:
    """The three files as published code saves them."""
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / "index.mat", {"index": list(paths)})
    savemat(folder / "label.mat", {"category": labels})
    if lines:
        (folder / "caption.txt").write_text("".join(f"{text}\n" for text in captions))
    else:
        savemat(folder / "caption.mat", {"caption": cells(captions)})


def mirflickr_labels(rows: int) -> NDArray[np.uint8]:
    """Labels in alphabetical columns that keep every containment of the data set."""
    column = {name: position for position, name in enumerate(MIRFLICKR_CLASSES)}
    chosen = [("male", "people"), ("dog", "animals"), ("clouds", "sky"), ("sea", "water"), ("tree", "plant_life")]
    labels = np.zeros((rows, len(column)), dtype=np.uint8)
    for row in range(rows):
        for name in chosen[row % len(chosen)]:
            labels[row, column[name]] = 1
    return labels


def write_mirflickr(folder: Path, rows: int, unlabelled: Sequence[int] = ()) -> None:
    """``mirflickr/`` and the annotations; images are numbered from 1."""
    labels = mirflickr_labels(rows)
    annotations = folder / "mirflickr25k_annotations_v080"
    annotations.mkdir(parents=True)
    (annotations / "README.txt").write_text("lists of images\n")
    for column, name in enumerate(MIRFLICKR_CLASSES):
        listed = [row + 1 for row in range(rows) if labels[row, column] and row + 1 not in unlabelled]
        (annotations / f"{name}.txt").write_text("".join(f"{number}\r\n" for number in listed))
    (annotations / "sky_r1.txt").write_text("1\r\n")
    for number in range(1, rows + 1):
        write_image(folder / "mirflickr" / f"im{number}.jpg", number)
        for tags in ("tags", "tags_raw"):
            path = folder / "mirflickr" / "meta" / tags / f"tags{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("" if number == 3 else f"{tags}\r\nnumber{number}\r\n")


def write_nuswide(folder: Path, rows: int, unlabelled: Sequence[int] = ()) -> None:
    """The lists of NUS-WIDE; images lie in one folder for each concept, as in its image list."""
    names = [f"actor\\{row:04}_{1000 + row}.jpg" for row in range(rows)]
    for path, lines in {
        "ImageList/Imagelist.txt": names,
        "NUS_WID_Tags/All_Tags.txt": [
            f"{1000 + row}      {'' if row == 5 else f'cow number{row}'}" for row in range(rows)
        ],
        "ConceptsList/Concepts81.txt": ["airport", *NUSWIDE_CLASSES],
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("".join(f"{line}\n" for line in lines))
    for column, name in enumerate((*NUSWIDE_CLASSES, "airport")):
        for kind in ("AllLabels/Labels_{}.txt", "TrainTestLabels/Labels_{}_Train.txt"):
            path = folder / "Groundtruth" / kind.format(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            held = [int(row % len(NUSWIDE_CLASSES) == column and row not in unlabelled) for row in range(rows)]
            if name in ("sky", "water"):
                held = [int(row not in unlabelled) for row in range(rows)]
            path.write_text("".join(f"{value}\n" for value in held))
    for row, name in enumerate(names):
        write_image(folder / "Flickr" / name.replace("\\", "/"), row)


def write_coco(folder: Path, train: int, val: int) -> None:
    """Instances and captions of both parts; the last image of each part shows no object."""
    ids = [number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
    categories = [{"id": key, "name": name, "supercategory": "x"} for key, name in zip(ids, COCO_CLASSES, strict=True)]
    for part, count, start in (("train2017", train, 500), ("val2017", val, 100)):
        images = [start + 3 * number for number in range(count)]
        shared = {"info": {"year": 2017}, "licenses": [{"id": 1, "name": "CC BY", "url": "x"}]}
        listed = [{"id": image, "file_name": f"{image:012}.jpg", "license": 1} for image in reversed(images)]
        instances = [
            {
                "id": 10_000 + 10 * image + number,
                "image_id": image,
                "category_id": category,
                "segmentation": [[1.5, 2.5]] if number else {"counts": [1, 2], "size": [2, 2]},
                "bbox": [0.0, 0.0, 1.0, 1.0],
                "iscrowd": 1 - number,
            }
            for image in images[:-1]
            for number, category in enumerate((1, ids[image % 80]))
        ]
        captions = [
            {"id": 5 * image - number, "image_id": image, "caption": f"sentence {number} of {image}.\n"}
            for image in images
            for number in range(5)
        ]
        for kind, rows in (("instances", instances), ("captions", captions)):
            path = folder / "annotations" / f"{kind}_{part}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            extra = {"categories": categories} if kind == "instances" else {}
            path.write_text(json.dumps({**shared, "images": listed, **extra, "annotations": rows}))
        for image in images:
            write_image(folder / part / f"{image:012}.jpg", image)
