from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tiny_home import load_fake, make_archive, make_home

from app.building import SHARD_ITEMS
from app.jobs import RebuildFailed
from app.rebuild_steps import RebuildSteps, Request
from app.settings import Settings
from index.errors import IndexCorrupt
from index.generations import IndexDirectory
from index.lock import writing
from index.snapshot import Snapshot

REQUEST = Request("demo", "tiny", "first", 64, "first", reuse=True, dry_run=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path / "home", 50)


@pytest.fixture
def directory(home: Path) -> IndexDirectory:
    return IndexDirectory(home / "indexes" / "demo")


def steps_of(home: Path, request: Request = REQUEST, **values: object) -> RebuildSteps:
    return RebuildSteps(request, home / "jobs" / "work", Settings(home=home, **values), load_fake)


def build(home: Path, request: Request = REQUEST, **values: object) -> None:
    steps = steps_of(home, request, **values)
    plan = steps.plan()
    for number in range(plan.shards):
        steps.encode_shard(plan, number, progress=lambda _: None)
    steps.write(plan)
    steps.verify(plan, items=plan.total)
    steps.swap(plan)
    steps.prune()
    steps.close()


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_generations_stay_as_are_set(home: Path, directory: IndexDirectory, keep: int) -> None:
    for _ in range(4):
        build(home, keep_generations=keep)
    assert directory.generations() == [1, 2, 3, 4][-keep:]


def test_nothing_is_pruned_under_the_lock_of_another(
    home: Path, directory: IndexDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.rebuild_steps.writing", partial(writing, wait_s=0.0))
    build(home)
    build(home)
    with writing(directory.path):
        steps_of(home, keep_generations=1).prune()
    assert directory.generations() == [1, 2]
    steps_of(home, keep_generations=1).prune()
    assert directory.generations() == [2]


def test_the_plan_counts_items_and_shards(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", SHARD_ITEMS + 1)
    plan = steps_of(home, replace(REQUEST, source="tiny:all")).plan()
    assert (plan.total, plan.shards, plan.generation, plan.reuse) == (SHARD_ITEMS + 1, 2, 1, None)


def test_a_plan_made_again_keeps_its_number(home: Path) -> None:
    assert steps_of(home).plan() == steps_of(home).plan()


def test_an_empty_source_is_refused(home: Path) -> None:
    make_archive(home / "data" / "tiny" / "archive.zip", 0)
    with pytest.raises(RebuildFailed, match="expected items, found none"):
        steps_of(home).plan()


def test_reuse_needs_the_same_model_and_texts(home: Path) -> None:
    build(home)
    assert steps_of(home).plan().reuse == 1
    for change in ({"artifact": "second"}, {"bits": 32}, {"texts": "all"}, {"reuse": False}):
        assert steps_of(home, replace(REQUEST, **change)).plan().reuse is None


def test_a_changed_picture_is_encoded_again(home: Path, directory: IndexDirectory) -> None:
    build(home)
    make_archive(home / "data" / "tiny" / "archive.zip", 50, changed=[3])
    build(home)
    with Snapshot.open(directory.path, 1) as old, Snapshot.open(directory.path, 2) as new:
        assert old.item("item-0002").codes == new.item("item-0002").codes
        assert old.item("item-0003").codes["image"] != new.item("item-0003").codes["image"]


def test_a_source_that_changes_on_the_way_stops_the_rebuild(home: Path) -> None:
    plan = steps_of(home).plan()
    make_archive(home / "data" / "tiny" / "archive.zip", 60)
    with pytest.raises(RebuildFailed, match="was replaced during the rebuild"):
        steps_of(home).encode_shard(plan, 0, progress=lambda _: None)


def test_missing_items_are_found_before_the_swap(home: Path) -> None:
    steps = steps_of(home)
    plan = steps.plan()
    steps.encode_shard(plan, 0, progress=lambda _: None)
    steps.write(plan)
    with pytest.raises(RebuildFailed, match="expected 41 items, found 40"):
        steps.verify(plan, items=41)


def test_a_damaged_file_is_found_before_the_swap(home: Path, directory: IndexDirectory) -> None:
    steps = steps_of(home)
    plan = steps.plan()
    steps.encode_shard(plan, 0, progress=lambda _: None)
    steps.write(plan)
    path = directory.generation_path(1) / "image.codes"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(IndexCorrupt, match=r"image\.codes"):
        steps.verify(plan, items=40)


def test_discard_takes_everything_back(home: Path, directory: IndexDirectory) -> None:
    steps = steps_of(home)
    plan = steps.plan()
    steps.encode_shard(plan, 0, progress=lambda _: None)
    steps.write(plan)
    steps.discard()
    assert directory.generations() == []
    assert list(directory.path.iterdir()) == []
    assert not steps.work_dir.exists()


def test_discard_keeps_the_generation_that_serves(home: Path, directory: IndexDirectory) -> None:
    steps = steps_of(home)
    plan = steps.plan()
    steps.encode_shard(plan, 0, progress=lambda _: None)
    steps.write(plan)
    steps.swap(plan)
    steps.discard()
    assert directory.generations() == [1]


def test_all_texts_of_an_item_get_codes(home: Path, directory: IndexDirectory) -> None:
    build(home, replace(REQUEST, texts="all"))
    with Snapshot.open(directory.path) as snapshot:
        assert snapshot.manifest.columns["text"].count == 80
        assert snapshot.manifest.columns["image"].count == 40
