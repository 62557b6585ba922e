"""`crossbit doctor` on small homes, sound and broken in every way that it looks for."""

import shutil
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.doctor import Finding, Level, examine
from app.jobs_lock import take_worker_id
from index.editing import NewItem, editing
from index.generations import IndexDirectory
from index.snapshot import Snapshot
from index.writer import GenerationSpec, IndexedItem, write_generation
from model.artifact import load_hasher
from model.errors import LicenceNotAccepted
from model.items import ItemArchive
from model.manifest import Manifest, read_manifest
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import load_recipe

BITS = 16
Examine = Callable[[], dict[str, list[Finding]]]


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory, archive: ItemArchive) -> Path:
    """A home with a data set, an artifact and an index of it."""
    home = tmp_path_factory.mktemp("doctor")
    few = ItemArchive.open(archive.path)
    few.items = archive.select(("train",))[:4]
    folders = Folders(home / "runs", home / "artifacts", home / "cache")
    manifest = train_artifact(load_recipe("itq", ["config.bits=[16, 24]"]), few, "small", folders, device="cpu")
    (home / "data" / "mine").mkdir(parents=True)
    shutil.copy(archive.path, home / "data" / "mine" / "archive.zip")
    build(home, manifest)
    return home


def build(home: Path, manifest: Manifest) -> None:
    hasher = load_hasher(home / "artifacts" / "small", BITS, "cpu")
    codes = {"text": hasher.encode_texts(["a flag"]).codes}
    spec = GenerationSpec("pictures", BITS, "small", manifest.fingerprints[str(BITS)], "cpu", "mine", "first", 1)
    item = IndexedItem(id="a", content_hash="0" * 64, text="a flag", metadata={}, thumbnail=None, codes=codes)
    write_generation(home / "indexes" / "pictures", spec, [item])
    IndexDirectory(home / "indexes" / "pictures").activate(1)


@pytest.fixture
def home(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sound home that a test may break."""
    copied = tmp_path / "home"
    shutil.copytree(sound, copied)
    monkeypatch.setenv("CROSSBIT_HOME", str(copied))
    monkeypatch.setenv("CROSSBIT_PORT", "0")
    monkeypatch.setenv("CROSSBIT_DEVICE", "cpu")
    return copied


@pytest.fixture
def found(home: Path) -> Examine:
    def found() -> dict[str, list[Finding]]:
        findings: dict[str, list[Finding]] = {}
        for one in examine():
            findings.setdefault(one.check, []).append(one)
        return findings

    return found


def test_a_sound_home_has_no_finding_but_ok(found: Examine) -> None:
    findings = found()
    expected = {
        "settings",
        "home",
        "disk",
        "port",
        "workers",
        "jobs",
        "device",
        "engine",
        "artifact small",
        "index pictures",
    }
    assert findings.keys() == {*expected, "data mine", "data openclipart"}
    assert {one.level for several in findings.values() for one in several} <= {Level.OK, Level.WARN}  # the disk is ours
    assert all(several[0].level is Level.OK for check, several in findings.items() if check != "disk")


def test_every_failure_says_what_to_do(home: Path, found: Examine) -> None:
    (home / "artifacts" / "small" / "weights.safetensors").write_bytes(b"")
    (home / "data" / "mine" / "archive.zip").write_bytes(b"")
    failures = [one for several in found().values() for one in several if one.level is Level.FAIL]
    assert len(failures) == 2
    assert all(one.remedy for one in failures)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "many", "CROSSBIT_PORT: Input should be a valid integer"),
        ("KEYS__QUERY", '["x"]', "CROSSBIT_KEYS__QUERY: String should match"),
        ("SOURCES", "x", 'field "sources"'),
    ],
)
def test_settings_that_make_no_sense_are_the_only_finding(
    found: Examine, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"CROSSBIT_{name}", value)
    ((finding,),) = found().values()
    assert finding.level is Level.FAIL
    assert message in finding.found


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("KEYS_FILE", "nowhere", "nowhere"),
        ("HOST", "0.0.0.0", "open to the network, and there are no keys"),  # noqa: S104 - refused
        ("DEFAULT_INDEX", "other", "served: pictures"),
        ("INDEXES", '["pictures", "gone"]', "CROSSBIT_INDEXES names 'gone'; known: pictures"),
        ("SOURCES", '{"shop": "gone"}', "'shop' reads the data set 'gone'; known: mine, openclipart"),
    ],
)
def test_settings_that_contradict_the_home_fail(
    found: Examine, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"CROSSBIT_{name}", value)
    (finding,) = found()["settings"]
    assert finding.level is Level.FAIL
    assert message in finding.found


def test_a_home_that_is_not_there_is_only_a_warning(
    found: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSBIT_HOME", str(tmp_path / "new" / "home"))
    findings = found()
    assert [findings[check][0].level for check in ("home", "artifacts", "indexes")] == [Level.WARN] * 3
    assert not (tmp_path / "new").exists()


def test_a_home_that_is_a_file_fails(found: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CROSSBIT_HOME", str(tmp_path / "file"))
    assert found()["home"][0].level is Level.FAIL


@pytest.mark.parametrize(("free", "level"), [(10 * 2**30, Level.OK), (2**29, Level.WARN), (2**20, Level.FAIL)])
def test_the_free_disk_is_told(found: Examine, monkeypatch: pytest.MonkeyPatch, free: int, level: Level) -> None:
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert found()["disk"][0].level is level


def test_a_disk_without_room_for_a_rebuild_is_a_warning(found: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.disk_space.COPIES", 2.0**50)
    finding = found()["disk"][1]
    assert finding.level is Level.WARN
    assert "a rebuild of index pictures takes about" in finding.found


def test_traces_without_their_packages_fail(found: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSBIT_OTLP_ENDPOINT", "http://collector.test:4318")
    assert found()["settings"][0].level is Level.OK
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    (finding,) = found()["settings"]
    assert finding.level is Level.FAIL
    assert "crossbit[otel]" in finding.remedy


def test_a_licence_that_nobody_accepted_fails(found: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(backbone: str, accepted: tuple[str, ...]) -> None:
        raise LicenceNotAccepted(f"{backbone} is not for sale")

    monkeypatch.setattr("app.doctor.require_licence", refuse)
    (finding,) = found()["artifact small"]
    assert finding.level is Level.FAIL
    assert "not for sale" in finding.found


def test_appended_items_without_codes_of_the_model_are_a_warning(home: Path, found: Examine) -> None:
    index_dir = home / "indexes" / "pictures"
    fingerprint = IndexDirectory(index_dir).current_manifest().fingerprint
    item = IndexedItem("b", "1" * 64, "a boat", {}, None, {"text": np.zeros((1, BITS // 8), np.uint8)})
    with editing(index_dir) as editor:
        editor.append([NewItem(item, None, {})], fingerprint=fingerprint)
    other = replace(item, id="c")  # of ``b`` it says nothing
    write_generation(index_dir, GenerationSpec("pictures", BITS, "small", "0" * 64, "cpu", "mine", "first", 2), [other])
    IndexDirectory(index_dir).activate(2)
    warnings = [one for one in found()["index pictures"] if one.level is Level.WARN]
    assert "1 appended items have no codes" in warnings[0].found


def test_many_edits_are_a_warning(home: Path, found: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.doctor.MANY_EDITS", 1)
    with editing(home / "indexes" / "pictures") as editor:
        editor.delete(["a"])
    finding = found()["index pictures"][0]
    assert (finding.level, finding.remedy) == (Level.WARN, "crossbit index compact pictures")


def test_a_taken_port_is_a_warning(found: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("CROSSBIT_PORT", str(other.getsockname()[1]))
        finding = found()["port"][0]
    assert finding.level is Level.WARN
    assert "cannot listen on 127.0.0.1" in finding.found


def test_a_home_that_is_served_is_said_to_be(home: Path, found: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    name, lock = take_worker_id(home / "jobs", "night-shift")
    with closing(lock), socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("CROSSBIT_PORT", str(other.getsockname()[1]))
        findings = found()
    assert "serves this home now" in findings["port"][0].found
    assert findings["workers"][0].found == f"rebuilds are run by {name}"


def test_a_database_of_jobs_that_does_not_answer_fails(found: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSBIT_JOBS_URL", "postgresql://me:secret@127.0.0.1:1/jobs")
    (finding,) = found()["jobs"]
    assert finding.level is Level.FAIL
    assert "cannot reach the database of jobs at postgresql://me:***@127.0.0.1:1/jobs" in finding.found


def test_rebuilds_that_nobody_runs_are_a_warning(found: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found()["workers"][0].level is Level.OK
    monkeypatch.setenv("CROSSBIT_WORKER", "none")
    assert found()["workers"][0].level is Level.WARN


def test_an_altered_weight_fails(home: Path, found: Examine) -> None:
    path = home / "artifacts" / "small" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert "expected fingerprint" in found()["artifact small"][0].found


def test_an_index_of_another_model_fails(home: Path, found: Examine) -> None:
    path = home / "artifacts" / "small" / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace(read_manifest(path.parent).fingerprints[str(BITS)], "0" * 64))
    (finding,) = found()["index pictures"]
    assert finding.level is Level.FAIL
    assert "another state of small at 16 bits" in finding.found


def test_an_index_without_its_model_fails(home: Path, found: Examine) -> None:
    shutil.rmtree(home / "artifacts" / "small")
    assert "no artifact named 'small'" in found()["index pictures"][0].found


def test_a_damaged_index_fails(home: Path, found: Examine) -> None:
    (path,) = (home / "indexes" / "pictures").glob("generation-*/text.codes")
    path.write_bytes(bytes(len(path.read_bytes())))
    (finding,) = found()["index pictures"]
    assert finding.level is Level.FAIL
    assert "does not match its checksum" in finding.found


def test_an_index_that_never_served_is_a_warning(home: Path, found: Examine) -> None:
    (home / "indexes" / "pictures" / "CURRENT").unlink()
    (finding,) = found()["index pictures"]
    assert finding.level is Level.WARN


def test_an_index_whose_data_set_is_gone_still_serves(home: Path, found: Examine) -> None:
    shutil.rmtree(home / "data" / "mine")
    assert [one.level for one in found()["index pictures"]] == [Level.WARN, Level.OK]
    with Snapshot.open(home / "indexes" / "pictures") as snapshot:
        assert snapshot.manifest.items == 1


def test_a_damaged_picture_of_a_data_set_fails(home: Path, found: Examine) -> None:
    path = home / "data" / "mine" / "archive.zip"
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(8)
    path.write_bytes(bytes(data))
    assert "is damaged" in found()["data mine"][0].found
