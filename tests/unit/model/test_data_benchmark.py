import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmark_files import mirflickr_labels, write_coco, write_image, write_layout, write_mirflickr, write_nuswide
from matlab_files import save73
from rich.progress import Progress
from scipy.io import savemat

from model.data import coco, mirflickr25k, nuswide
from model.data.benchmark import Benchmark, Variant
from model.data.check import check_archive, check_counts
from model.data.splits import PublishedRule
from model.errors import ArchiveError
from model.evaluation.codes import encode_codes
from model.fake import FakeHasher
from model.items import ItemArchive

ROWS = 40
SMALL = PublishedRule(query=4, train=20, validation=3)
BENCHMARKS = {
    module.BENCHMARK.name: replace(module.BENCHMARK, split=SMALL, variants={ROWS: Variant("a miniature")})
    for module in (mirflickr25k, nuswide, coco)
}
MIRFLICKR = BENCHMARKS["mirflickr25k"]


def build(benchmark: Benchmark, home: Path, source: Path, images: Path | None = None) -> ItemArchive:
    folder = home / benchmark.name
    return ItemArchive.open(benchmark.build(folder, source=source, images=images, progress=Progress(disable=True)))


def downloads(name: str, folder: Path) -> Path:
    match name:
        case "mirflickr25k":
            write_mirflickr(folder, ROWS + 2, unlabelled=(2, 7))
        case "nuswide":
            write_nuswide(folder, ROWS + 2, unlabelled=(2, 7))
        case "coco":
            write_coco(folder, train=31, val=11)
    return folder


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset" / "flickr25k"
    paths = [f"D:\\data\\mirflickr\\im{number}.jpg" for number in range(1, ROWS + 1)]
    write_layout(folder, paths, [f"tag{number} photo" for number in range(ROWS)], mirflickr_labels(ROWS))
    for number in range(1, ROWS + 1):
        write_image(folder / "mirflickr" / f"im{number}.jpg", number)
    return folder


@pytest.mark.parametrize("name", BENCHMARKS)
def test_official_downloads_become_a_sound_data_set(tmp_path: Path, name: str) -> None:
    archive = build(BENCHMARKS[name], tmp_path / "home", downloads(name, tmp_path / "downloads"))
    assert check_archive(archive).ok
    assert list(check_counts(archive, BENCHMARKS[name].expected_counts(archive))) == []
    assert Counter(item.split for item in archive.items) == {"query": 4, "train": 20, "validation": 3, "unseen": 13}
    assert len(archive.database()) == ROWS - SMALL.query
    assert archive.info.notes["variant"] in archive.info.title
    assert f"{ROWS} items" in archive.info.title
    assert "a miniature" in archive.info.title
    assert archive.info.revision.startswith(f"{ROWS} items, {len(archive.info.class_names)} labels, ")
    assert archive.info.notes["doubts"] == []


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_layout_written_from_downloads_gives_the_same_data_set(tmp_path: Path, name: str) -> None:
    folder = downloads(name, tmp_path / "downloads")
    first = build(BENCHMARKS[name], tmp_path / "home", folder)
    written = first.path.parent
    kept = ("index.mat", "label.mat", "classes.txt", "caption.txt" if name == "nuswide" else "caption.mat")
    assert {path.name for path in written.iterdir()} == {"archive.sqlite", *kept}
    second = build(BENCHMARKS[name], tmp_path / "other", written, images=folder)
    assert second.info == first.info
    assert list(second.items) == list(first.items)


def by_id(archive: ItemArchive) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    return {item.id: (item.texts["text"], item.labels) for item in archive.items}


def test_mirflickr_captions_are_the_tags_and_labels_the_potential_ones(tmp_path: Path) -> None:
    archive = build(MIRFLICKR, tmp_path / "home", downloads("mirflickr25k", tmp_path / "downloads"))
    items = by_id(archive)
    assert items["im1.jpg"] == (("tags number1",), ("male", "people"))
    assert items["im3.jpg"] == (("123456",), ("clouds", "sky"))
    assert archive.info.notes["empty_texts"] == 1
    assert not items.keys() & {"im2.jpg", "im7.jpg"}


def test_nuswide_keeps_its_folders_and_takes_tags_by_line(tmp_path: Path) -> None:
    archive = build(BENCHMARKS["nuswide"], tmp_path / "home", downloads("nuswide", tmp_path / "downloads"))
    items = by_id(archive)
    assert items["0001_1001.jpg"] == (("cow number1",), ("beach", "sky", "water"))
    assert items["0005_1005.jpg"][0] == ("123456",)
    assert archive.items[0].image == "Flickr/actor/0000_1000.jpg"
    assert archive.items[0].metadata == {"file": "actor/0000_1000.jpg", "row": 0}


def test_coco_keeps_every_caption_and_the_first_is_that_of_the_lowest_id(tmp_path: Path) -> None:
    archive = build(BENCHMARKS["coco"], tmp_path / "home", downloads("coco", tmp_path / "downloads"))
    item = next(item for item in archive.items if item.id == "000000000500.jpg")
    assert item.texts["text"] == tuple(f"sentence {number} of 500." for number in (4, 3, 2, 1, 0))
    assert item.labels == ("person", coco.CLASS_NAMES[500 % 80])
    assert item.metadata["row"] == 0
    assert archive.info.class_names == coco.CLASS_NAMES


def test_the_split_is_that_of_the_row_in_the_files(tmp_path: Path, layout: Path) -> None:
    archive = build(MIRFLICKR, tmp_path / "home", layout)
    permutation = np.random.RandomState(1814).permutation(ROWS)
    rows = {item.metadata["row"]: item.split for item in archive.items}
    assert {rows[row] for row in permutation[:4]} == {"query"}
    assert {rows[row] for row in permutation[4:24]} == {"train"}


def test_evaluation_retrieves_from_everything_but_the_queries(tmp_path: Path, layout: Path) -> None:
    codes = encode_codes(FakeHasher(16), build(MIRFLICKR, tmp_path / "home", layout))
    assert (len(codes.query_ids), len(codes.database_ids)) == (SMALL.query, ROWS - SMALL.query)
    assert codes.unseen.sum() == ROWS - SMALL.query - SMALL.train  # validation is no part of training


def test_the_folder_above_the_layout_may_be_given(tmp_path: Path, layout: Path) -> None:
    assert len(build(MIRFLICKR, tmp_path / "home", layout.parent).items) == ROWS


def test_images_stay_where_they_are_and_are_read_from_there(tmp_path: Path, layout: Path) -> None:
    archive = build(MIRFLICKR, tmp_path / "home", layout)
    assert archive.items[0].image == "mirflickr/im1.jpg"
    assert archive.read_image(archive.items[0]) == (layout / "mirflickr" / "im1.jpg").read_bytes()


def test_both_versions_of_mat_files_give_the_same_data_set(tmp_path: Path, layout: Path) -> None:
    first = build(MIRFLICKR, tmp_path / "home", layout)
    save73(layout / "index.mat", {"index": [item.metadata["file"] for item in in_row_order(first)]})
    save73(layout / "caption.mat", {"caption": [list(item.texts["text"]) for item in in_row_order(first)]})
    save73(layout / "label.mat", {"LAll": mirflickr_labels(ROWS)})
    assert build(MIRFLICKR, tmp_path / "other", layout).info == first.info


def in_row_order(archive: ItemArchive) -> list:  # type: ignore[type-arg]
    return sorted(archive.items, key=lambda item: item.metadata["row"])


def test_an_unpublished_number_of_items_is_a_doubt(tmp_path: Path, layout: Path) -> None:
    archive = build(replace(MIRFLICKR, variants={24_581: Variant("as published")}), tmp_path / "home", layout)
    assert "no published selection" in archive.info.title
    assert archive.info.notes["doubts"] == ["expected 24,581 items, found 40: figures compare with no published ones"]


def test_items_without_a_label_are_a_doubt(tmp_path: Path, layout: Path) -> None:
    labels = mirflickr_labels(ROWS)
    labels[3:5] = 0
    savemat(layout / "label.mat", {"category": labels})
    [doubt] = build(MIRFLICKR, tmp_path / "home", layout).info.notes["doubts"]
    assert "found 2 items without any" in doubt


def test_label_columns_in_an_unknown_order_end_with_the_column_that_looks_wrong(tmp_path: Path, layout: Path) -> None:
    savemat(layout / "label.mat", {"category": np.roll(mirflickr_labels(ROWS), 5, axis=1)})
    with pytest.raises(
        ArchiveError, match=r"label file: no known column order fits .* column \d+ \('\w+'\) looks wrong"
    ):
        build(MIRFLICKR, tmp_path / "home", layout)


def test_too_few_items_for_the_published_split_are_refused(tmp_path: Path, layout: Path) -> None:
    with pytest.raises(ArchiveError, match=r"expected more than the 13,000 rows"):
        build(mirflickr25k.BENCHMARK, tmp_path / "home", layout)


def test_a_broken_file_leaves_the_earlier_data_set(tmp_path: Path, layout: Path) -> None:
    first = build(MIRFLICKR, tmp_path / "home", layout)
    label = layout / "label.mat"
    label.write_bytes(label.read_bytes()[:300])
    with pytest.raises(ArchiveError, match=r"label\.mat"):
        build(MIRFLICKR, tmp_path / "home", layout)
    assert ItemArchive.open(first.path).info == first.info


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("source", [None, "nothing"])
def test_a_missing_source_is_explained(tmp_path: Path, name: str, source: str | None) -> None:
    with pytest.raises(ArchiveError, match=r"expected --from FOLDER with the index, caption and label files"):
        BENCHMARKS[name].build(
            tmp_path / "a", source=source and tmp_path / source, images=None, progress=Progress(disable=True)
        )


@pytest.mark.parametrize(
    ("name", "file"), [("mirflickr25k", "tags/tags1.txt"), ("nuswide", "Imagelist.txt"), ("coco", "instances_train")]
)
def test_a_folder_without_the_downloads_names_the_missing_file(tmp_path: Path, name: str, file: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArchiveError, match=rf"expected one file {file}.* found none"):
        build(BENCHMARKS[name], tmp_path / "home", tmp_path / "empty")


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        (
            "mirflickr25k",
            "mirflickr25k_annotations_v080/sky.txt",
            lambda lines: [*lines, "99"],
            r"sky\.txt, line \d+: expected the number of an image, found '99'",
        ),
        (
            "nuswide",
            "Groundtruth/AllLabels/Labels_lake.txt",
            lambda lines: ["0", "-1130179", *lines[2:]],
            r"Labels_lake\.txt, line 2: expected 0 or 1, found '-1130179'",
        ),
        (
            "nuswide",
            "Groundtruth/AllLabels/Labels_lake.txt",
            lambda lines: lines[:-1],
            r"Labels_lake\.txt: expected 42 lines, as many as in Imagelist\.txt, found 41",
        ),
        (
            "nuswide",
            "NUS_WID_Tags/All_Tags.txt",
            lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
            r"All_Tags\.txt, line 2: expected the photo id of 'actor/0001_1001\.jpg' and its tags, found '1002'",
        ),
    ],
    ids=["number", "label", "lines", "order"],
)
def test_a_wrong_line_of_the_downloads_is_named(
    tmp_path: Path, name: str, file: str, change: Callable[[list[str]], list[str]], message: str
) -> None:
    edit(downloads(name, tmp_path / "downloads") / file, change)
    with pytest.raises(ArchiveError, match=message):
        build(BENCHMARKS[name], tmp_path / "home", tmp_path / "downloads")


@pytest.mark.parametrize(
    ("file", "key", "entry", "message"),
    [
        ("instances", "annotations", {"id": 1, "image_id": 100}, r"expected COCO's annotations, found .*an annotation"),
        ("instances", "annotations", {"id": 1, "image_id": 100, "caption": "x"}, r"found .*an annotation"),
        ("instances", "annotations", {"id": 1, "image_id": 7, "category_id": 1}, r"image or category 7, .* not listed"),
        ("instances", "annotations", {"id": 1, "image_id": 100, "category_id": 12}, r"image or category 12, .* not"),
        ("instances", "images", {"id": 1, "url": "x"}, r"found .*an image or category"),
        ("captions", "annotations", [1, 2, 3], r"captions_val2017\.json: expected COCO's annotations"),
        ("captions", "annotations", {"id": 1, "image_id": 7, "caption": "x"}, r"image or category 7, .* not listed"),
    ],
)
def test_a_wrong_entry_of_the_annotations_is_named(
    tmp_path: Path, file: str, key: str, entry: object, message: str
) -> None:
    path = downloads("coco", tmp_path / "downloads") / "annotations" / f"{file}_val2017.json"
    content = json.loads(path.read_text())
    content[key].append(entry)
    path.write_text(json.dumps(content))
    with pytest.raises(ArchiveError, match=message):
        build(BENCHMARKS["coco"], tmp_path / "home", tmp_path / "downloads")


def test_annotations_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = downloads("coco", tmp_path / "downloads") / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content)[:-20])
    with pytest.raises(ArchiveError, match=r"instances_val2017\.json: expected COCO's annotations"):
        build(BENCHMARKS["coco"], tmp_path / "home", tmp_path / "downloads")
    content["categories"][3]["name"] = "motorbike"
    path.write_text(json.dumps(content))
    with pytest.raises(ArchiveError, match=r"instances_val2017\.json: expected the 80 categories .* 'motorbike'"):
        build(BENCHMARKS["coco"], tmp_path / "home", tmp_path / "downloads")


@pytest.mark.parametrize(
    ("benchmark", "items", "query", "train", "database"),
    [
        (mirflickr25k.BENCHMARK, 24_581, 2_000, 10_000, 22_581),
        (mirflickr25k.BENCHMARK, 20_015, 2_000, 10_000, 18_015),
        (nuswide.BENCHMARK, 195_834, 2_100, 10_500, 193_734),
        (nuswide.BENCHMARK, 192_779, 2_000, 10_000, 190_779),
        (nuswide.BENCHMARK, 190_421, 2_100, 10_500, 188_321),
        (coco.BENCHMARK, 122_218, 5_000, 10_000, 117_218),
    ],
)
def test_each_published_variant_has_its_published_counts(
    benchmark: Benchmark, items: int, query: int, train: int, database: int
) -> None:
    assert items in benchmark.variants
    rule = benchmark.rule(items)
    counts = Counter(rule.assign(items))
    assert (counts["query"], counts["train"]) == (query, train)
    assert sum(counts[split] for split in rule.database) == database


def test_own_data_of_a_benchmarks_name_is_not_held_to_its_counts(tmp_path: Path, layout: Path) -> None:
    archive = build(MIRFLICKR, tmp_path / "home", layout)
    archive.info = replace(archive.info, source="photos.csv")
    assert MIRFLICKR.expected_counts(archive) == {}
