"""A rebuild of a data set whose images lie in an S3-compatible store, here moto's server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto_server import Bucket, s3_bucket
from tiny_home import load_fake, make_home, png

from app.rebuild_steps import RebuildSteps, Request
from app.settings import Settings
from index.snapshot import Snapshot
from model import object_files
from model.data.importing import Choices, import_source, read_source
from model.images import decode_image

pytestmark = pytest.mark.s3

ITEMS = 40
MISSING, BROKEN, EMPTY, LARGE = 3, 5, 7, 11


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with s3_bucket() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        for number in range(ITEMS):
            data = {BROKEN: b"no picture", EMPTY: b"", LARGE: bytes(2**16)}.get(number, png(number))
            if number != MISSING:
                bucket.put(f"tiny/{number:02d} ü.png", data)
        yield bucket


def test_objects_are_read_and_bad_ones_are_listed(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_files, "MAX_IMAGE_BYTES", 2**15)
    settings = Settings(home=make_home(tmp_path / "home", 1))
    rows = [{"id": f"item-{number:02d}", "image": f"{number:02d} ü.png"} for number in range(ITEMS)]
    manifest = tmp_path / "items.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = read_source(manifest, f"{bucket.url}/tiny")
    import_source(source, "far", settings.data_dir, Choices(link=True))
    steps = RebuildSteps(
        Request("far", "far", "first", 64, "first", reuse=True, dry_run=False), tmp_path / "job", settings, load_fake
    )
    plan = steps.plan()
    shard = steps.encode_shard(plan, 0, progress=lambda _: None)
    reasons = {one.id: one.reason for one in shard.skipped}
    assert reasons.keys() == {f"item-{number:02d}" for number in (MISSING, BROKEN, EMPTY, LARGE)}
    assert "no object '03 ü.png' below s3://photos/tiny" in reasons["item-03"]
    assert "expected an object of at most 32,768 bytes, found more" in reasons["item-11"]
    steps.write(plan)
    steps.verify(plan, items=ITEMS - 4)
    hasher = load_fake(Path("first"), 64, "cpu")
    with Snapshot.open(settings.indexes_dir / "far", plan.generation) as snapshot:
        stored = snapshot.item("item-08").codes["image"]
    assert stored == [hasher.encode_images([decode_image(png(8))]).codes[0].tobytes().hex()]
