"""A folder of somebody's own pictures, from import to search and measurement, by the commands that README shows."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from model.items import ItemArchive

MAIN = [sys.executable, "-W", "error", "-c", "from app.cli import main; main()"]
PICTURES = 40
WAIT_S = 120


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, archive: ItemArchive) -> Path:
    """Pictures named by their titles, some with a caption beside them, and one file that is none."""
    folder = tmp_path_factory.mktemp("own") / "photos"
    folder.mkdir()
    for number, item in enumerate(archive.items[:PICTURES]):
        title = re.sub(r"\W+", "-", item.texts["title"][0])
        (folder / f"{title}_{number}.webp").write_bytes(archive.read_image(item))
        if number % 4 == 0:
            (folder / f"{title}_{number}.txt").write_text(f"a drawing of {title}\n")
    (folder / "broken.jpg").write_text("not a picture")
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return os.environ | {"CROSSBIT_HOME": str(tmp_path_factory.mktemp("home"))}


def crossbit(environment: dict[str, str], *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [*MAIN, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def answer(environment: dict[str, str], *arguments: object) -> Any:  # noqa: ANN401 - JSON
    return json.loads(crossbit(environment, *arguments, "--json").stdout)


@pytest.fixture(scope="module")
def indexed(photos: Path, environment: dict[str, str]) -> dict[str, str]:
    """The environment of a home in which the pictures are imported, learned and indexed."""
    imported = crossbit(environment, "import", photos, "--name", "mine")
    assert "skipped broken.jpg" in imported.stderr
    assert answer(environment, "train", "itq", "--data", "mine", "--name", "mine-itq")["bits"] == "16, 32, 64, 128"
    built = answer(environment, "index", "build", "mine", "--artifact", "mine-itq", "--data", "mine")
    assert built["items"] == PICTURES
    return environment


@pytest.mark.slow
def test_own_pictures_are_found_by_what_they_show(indexed: dict[str, str], photos: Path) -> None:
    picture = min(photos.glob("*.webp"))
    found = answer(indexed, "search", "--index", "mine", "--image", picture, "--target", "image", "--limit", 1)
    assert (found["hits"][0]["id"], found["hits"][0]["distance"]) == (picture.name, 0)
    text = picture.with_suffix("").name.rpartition("_")[0].replace("-", " ")
    hits = answer(indexed, "search", "--index", "mine", "--text", text, "--limit", PICTURES // 2)["hits"]
    assert picture.name in [hit["id"] for hit in hits]


@pytest.mark.slow
def test_what_needs_labels_or_more_pictures_says_so(indexed: dict[str, str]) -> None:
    evaluated = crossbit(indexed, "evaluate", "mine-itq", code=2)
    assert "mine; split none" in evaluated.stderr
    assert "error: mine has no labels, and without them nothing says which items are relevant" in evaluated.stderr
    trained = crossbit(indexed, "train", "baseline", "--data", "mine", "--name", "mine-baseline", code=2)
    assert f"needs at least 200 items with an image and a text, found {PICTURES}; add 160 more" in trained.stderr
    assert "crossbit train itq --data mine" in trained.stderr


@pytest.mark.slow
def test_the_home_is_sound_and_the_service_is_measured(indexed: dict[str, str]) -> None:
    assert answer(indexed | {"CROSSBIT_PORT": "0"}, "doctor")["ok"]
    measured = answer(indexed, "bench", "serve", "--requests", 2)
    assert measured["index"] == {"artifact": "mine-itq", "bits": 64, "generation": 1, "items": PICTURES, "name": "mine"}
    found = {(one["kind"], one["concurrency"]): one for one in measured["measurements"]}
    assert set(found) == {(kind, at_once) for kind in ("text", "image", "code") for at_once in (1, 4, 16)}
    assert all(one["refused"] == 0 and 0 < one["p50_ms"] <= one["p99_ms"] for one in found.values())
    assert found["text", 1]["encode_share"] > 0 == found["code", 1]["encode_share"]
    batching = measured["batching"]
    assert set(batching["services"]) == {"batched", "unbatched"}
    assert set(batching["bare_per_s"]) == {"1", "4", "16", "32", "64"}
    assert all(one["share_of_bare"] > 0 < one["alone_added_ms"] for one in batching["services"].values())


@pytest.mark.slow
def test_ctrl_c_ends_a_training_with_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [*MAIN, "train", "itq", "--data", "openclipart", "--name", "cut"]
    with subprocess.Popen(
        command, env=environment | {"CROSSBIT_HOME": str(home)}, stderr=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + WAIT_S
        while not any(home.glob("cache/*/text-*.npy")) and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert log.splitlines()[-1] == "interrupted; nothing half-written was left behind"
    assert "Traceback" not in log
    assert not list(home.glob("**/*.tmp"))
    assert not (home / "artifacts").exists()
