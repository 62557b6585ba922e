from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from threading import Lock

import pytest
from fake_artifact import write_fake_artifact
from tiny_home import FUSING, load_fake, make_archive, make_home

import app.rebuild_steps
import index.replay
from app.building import SHARD_ITEMS, Builder
from app.edit_commands import append_items
from app.jobs import RebuildFailed
from app.rebuild_steps import Plan, RebuildSteps, Request
from app.settings import Settings
from index.compaction import compact
from index.editing import editing
from index.errors import IndexCorrupt
from index.generations import IndexDirectory
from index.lock import writing
from index.snapshot import Snapshot
from model.fake import FakeHasher
from model.items import ItemArchive

REQUEST = Request("demo", "tiny", "first", 64, "first", reuse=True, dry_run=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path / "home", 50)


@pytest.fixture
def directory(home: Path) -> IndexDirectory:
    return IndexDirectory(home / "indexes" / "demo")


def steps_of(home: Path, request: Request = REQUEST, **values: object) -> RebuildSteps:
    return RebuildSteps(request, home / "jobs" / "work", Settings(home=home, **values), load_fake)


def build(
    home: Path,
    request: Request = REQUEST,
    *,
    meanwhile: Mapping[str, Callable[[], None]] | None = None,
    **values: object,
) -> None:
    """All steps; ``meanwhile`` is done before the step of its name."""
    steps = steps_of(home, request, **values)
    plan = steps.plan()
    counts: list[int] = []

    def step(name: str, run: Callable[[], object]) -> None:
        (meanwhile or {}).get(name, lambda: None)()
        run()

    for number in range(plan.shards):
        step("encode_shard", lambda number=number: steps.encode_shard(plan, number, progress=counts.append))
    assert sum(counts) == plan.total
    step("write", lambda: steps.write(plan))
    step("verify", lambda: steps.verify(plan, items=plan.total))
    step("catch_up", lambda: steps.catch_up(plan, progress=lambda _: None))
    step("swap", lambda: steps.swap(plan))
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


def test_a_shard_is_written_when_its_turn_to_encode_is_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn, held = Lock(), []
    monkeypatch.setattr(app.rebuild_steps, "write_shard", lambda *_: held.append(("written", turn.locked())))
    steps = steps_of(home)
    steps.encode_shard(steps.plan(), 0, progress=lambda _: held.append(("encoded", turn.locked())), turn=turn)
    assert set(held) == {("encoded", True), ("written", False)}


def test_a_worker_on_another_kind_of_device_encodes_nothing(home: Path) -> None:
    plan = replace(steps_of(home).plan(), device="cuda")
    with pytest.raises(RebuildFailed, match="expected a worker whose models run on cuda, found one on cpu"):
        steps_of(home).encode_shard(plan, 0, progress=lambda _: None)


def test_a_worker_with_a_home_of_its_own_encodes_nothing(home: Path, tmp_path: Path) -> None:
    plan = steps_of(home).plan()
    with pytest.raises(RebuildFailed, match="every worker must share one home"):
        steps_of(make_home(tmp_path / "other", 50)).encode_shard(plan, 0, progress=lambda _: None)


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


def append(home: Path, *numbers: int, model: str = "first", bits: int = 64, changed: bool = True) -> None:
    """Append items of these numbers, with other pictures than the source's where they are ``changed``."""
    path = home / "new.zip"
    make_archive(path, max(numbers) + 1, changed=numbers if changed else ())
    archive = ItemArchive.open(path)
    hasher = load_fake(home / "artifacts" / model, bits, "cpu")
    append_items(
        home / "indexes" / "demo", Builder(archive, hasher), [archive.items[n] for n in numbers], lambda _: None
    )


def delete(home: Path, *numbers: int) -> None:
    with editing(home / "indexes" / "demo") as editor:
        editor.delete([f"item-{number:04d}" for number in numbers])


def expected_codes(home: Path, number: int, model: str, bits: int, *, changed: bool) -> dict[str, list[str]]:
    """What a build from a source with that item gives."""
    path = home / "expected.zip"
    make_archive(path, number + 1, changed=[number] if changed else ())
    archive = ItemArchive.open(path)
    builder = Builder(archive, load_fake(home / "artifacts" / model, bits, "cpu"))
    (item,) = builder.encode(archive.items[number:], progress=lambda _: None).items
    return {name: [code.tobytes().hex() for code in codes] for name, codes in item.codes.items()}


CHANGES = [{}, {"artifact": "second"}, {"bits": 128}, {"artifact": FUSING}]


@pytest.mark.parametrize("change", CHANGES)
def test_a_rebuild_makes_the_source_with_the_edits(
    home: Path, directory: IndexDirectory, change: dict[str, object]
) -> None:
    write_fake_artifact(home / "artifacts" / FUSING)
    build(home)
    append(home, 3, 54)  # one of the source, one more
    delete(home, 5, 6)
    request = replace(REQUEST, **change)
    build(home, request)
    with Snapshot.open(directory.path) as snapshot:
        assert (snapshot.item_count, snapshot.edits, snapshot.manifest.items) == (40 + 1 - 2, 0, 39)
        assert (snapshot.manifest.log_position, snapshot.pending) == (4, ())
        assert not snapshot.has("item-0005")
        for number, changed in ((3, True), (54, True), (2, False)):
            codes = expected_codes(home, number, request.artifact, request.bits, changed=changed)
            assert snapshot.item(f"item-{number:04d}").codes == codes
        assert snapshot.thumbnail("item-0054") is not None


def test_edits_win_over_a_source_that_changed(home: Path, directory: IndexDirectory) -> None:
    build(home)
    append(home, 3)
    delete(home, 5)
    make_archive(home / "data" / "tiny" / "archive.zip", 60, changed=[5, 7])
    build(home)
    with Snapshot.open(directory.path) as snapshot:
        assert snapshot.item_count == 48 - 1
        assert not snapshot.has("item-0005")
        for number in (3, 7):
            codes = expected_codes(home, number, "first", 64, changed=True)
            assert snapshot.item(f"item-{number:04d}").codes == codes


def test_edits_that_were_merged_are_made_again(home: Path, directory: IndexDirectory) -> None:
    build(home)
    append(home, 3, 54)
    delete(home, 5)
    compact(directory.path)
    build(home, replace(REQUEST, artifact="second"))
    build(home, replace(REQUEST, artifact="second", bits=32))
    with Snapshot.open(directory.path) as snapshot:
        assert (snapshot.item_count, snapshot.has("item-0005")) == (40, False)
        for number in (3, 54):
            codes = expected_codes(home, number, "second", 32, changed=True)
            assert snapshot.item(f"item-{number:04d}").codes == codes


@pytest.mark.parametrize("step", ["encode_shard", "write", "verify", "catch_up", "swap"])
@pytest.mark.parametrize("change", CHANGES[:3])
def test_edits_during_a_rebuild_come_on_top(
    home: Path, directory: IndexDirectory, change: dict[str, object], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index.replay, "FEW", 0)
    build(home)
    append(home, 54, 55)

    def edit() -> None:
        append(home, 56, 3)
        delete(home, 5, 54)

    request = replace(REQUEST, **change)
    build(home, request, meanwhile={step: edit})
    with Snapshot.open(directory.path) as snapshot:
        assert (snapshot.item_count, snapshot.pending) == (40 - 1 + 2, ())
        assert [snapshot.has(f"item-{number:04d}") for number in (5, 54)] == [False, False]
        for number in (3, 55, 56):
            codes = expected_codes(home, number, request.artifact, request.bits, changed=True)
            assert snapshot.item(f"item-{number:04d}").codes == codes
    directory.rollback()
    with Snapshot.open(directory.path) as snapshot:
        assert (snapshot.item_count, snapshot.pending) == (41, ())
        for number in (3, 55, 56):
            codes = expected_codes(home, number, "first", 64, changed=True)
            assert snapshot.item(f"item-{number:04d}").codes == codes


def test_a_merge_during_a_rebuild_takes_no_item_from_it(home: Path, directory: IndexDirectory) -> None:
    build(home)
    append(home, 54, 55)

    def edit_and_merge() -> None:
        delete(home, 54)
        append(home, 3)
        compact(directory.path)

    request = replace(REQUEST, artifact="second")
    steps = steps_of(home, request)
    plan = steps.plan()
    edit_and_merge()
    shard = steps.encode_shard(plan, 0, progress=lambda _: None)
    assert [one.id for one in shard.skipped] == ["item-0054"]
    steps.write(plan)
    steps.verify(plan, items=plan.total - len(shard.skipped))
    steps.swap(plan)
    steps.close()
    with Snapshot.open(directory.path) as snapshot:
        assert (snapshot.item_count, snapshot.has("item-0054"), snapshot.pending) == (41, False, ())
    directory.activate(3)  # the merged one
    with Snapshot.open(directory.path) as snapshot:
        assert (snapshot.item_count, snapshot.has("item-0054"), snapshot.pending) == (41, False, ())


def test_what_came_after_a_change_of_model_waits_after_a_rollback_until_a_rebuild(
    home: Path, directory: IndexDirectory
) -> None:
    build(home)
    append(home, 54)
    build(home, replace(REQUEST, artifact="second"))
    append(home, 55, model="second")
    directory.rollback()
    with Snapshot.open(directory.path) as snapshot:
        assert (snapshot.has("item-0054"), [one.id for one in snapshot.pending]) == (True, ["item-0055"])
        assert snapshot.item("item-0054").codes == expected_codes(home, 54, "first", 64, changed=True)
    build(home)
    with Snapshot.open(directory.path) as snapshot:
        assert (snapshot.item_count, snapshot.pending, snapshot.edits) == (42, (), 0)
        assert snapshot.item("item-0055").codes == expected_codes(home, 55, "first", 64, changed=True)


def test_a_source_may_be_empty_where_items_were_appended(home: Path, directory: IndexDirectory) -> None:
    build(home)
    append(home, 54)
    make_archive(home / "data" / "tiny" / "archive.zip", 0)
    build(home)
    with Snapshot.open(directory.path) as snapshot:
        assert [item.id for item in snapshot.all_items()] == ["item-0054"]


def test_a_model_that_is_replaced_before_the_swap_encodes_nothing(home: Path, directory: IndexDirectory) -> None:
    build(home)

    def load(artifact_dir: Path, bits: int, device: str) -> FakeHasher:
        is_replaced = (home / "artifacts" / "third").exists()
        return load_fake(artifact_dir.with_name("third") if is_replaced else artifact_dir, bits, device)

    request = replace(REQUEST, artifact="second")
    steps = RebuildSteps(request, home / "jobs" / "work", Settings(home=home), load)
    plan = steps.plan()
    steps.encode_shard(plan, 0, progress=lambda _: None)
    steps.write(plan)
    append(home, 54)
    write_fake_artifact(home / "artifacts" / "third")
    steps = RebuildSteps(request, home / "jobs" / "work", Settings(home=home), load)  # resumed
    with pytest.raises(RebuildFailed, match="was replaced during the rebuild"):
        steps.swap(plan)
    assert directory.current_manifest().generation == 1


def test_a_job_that_an_earlier_version_planned_goes_on(home: Path, directory: IndexDirectory) -> None:
    build(home)
    steps = steps_of(home, replace(REQUEST, artifact="second"))
    fields = asdict(steps.plan())
    del fields["position"]
    append(home, 54)
    (steps.work_dir / "edits.log").unlink()
    steps = steps_of(home, replace(REQUEST, artifact="second"))
    plan = Plan(**fields)
    steps.encode_shard(plan, 0, progress=lambda _: None)
    steps.write(plan)
    steps.verify(plan, items=plan.total)
    steps.swap(plan)
    with Snapshot.open(directory.path) as snapshot:
        assert (snapshot.item_count, snapshot.edits, snapshot.pending) == (41, 1, ())
