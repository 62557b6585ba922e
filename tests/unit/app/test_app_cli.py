import errno
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from safetensors import SafetensorError
from tiny_home import load_fake, make_archive, make_home, png

import app.cli
from app.cli import options
from app.jobs_lock import take_worker_id
from model.errors import UnsupportedImage
from model.fake import FakeHasher
from model.hasher import EncodedBatch
from model.manifest import Manifest


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.out)


Run = Callable[..., Ended]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with data and artifacts, and no index."""
    home = make_home(tmp_path / "home", 50)
    monkeypatch.setenv("CROSSBIT_HOME", str(home))
    return home


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line, with ``FakeHasher`` in place of trained models."""

    def load(artifact_dir: Path, bits: int, device: str, cache_dir: Path | None = None) -> FakeHasher:
        return load_fake(artifact_dir, bits, device)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["crossbit", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            app.cli.main()
        out, err = capsys.readouterr()
        return Ended(int(exit_info.value.code or 0), out, err)

    monkeypatch.setattr(options, "load_hasher", load)
    return run


@pytest.fixture
def built(run: Run) -> Ended:
    """The index ``demo``, built."""
    return run("index", "build", "demo", "--artifact", "first", "--data", "tiny", "--json")


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    heavy = "torch fastapi dbos numpy PIL pydantic rich uvicorn faiss sqlite3"
    code = f"import sys, app.cli; print([name for name in '{heavy}'.split() if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_names_every_command_and_the_first_steps(run: Run) -> None:
    out = " ".join(run("--help").out.split())
    commands = "import train evaluate models data encode search index serve key doctor bench"
    assert all(f"│ {command} " in out for command in commands.split())
    assert "First steps: crossbit train baseline --name demo;" in out


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version").out == f"crossbit {version('crossbit')}\n"


def test_building_an_index_makes_it_serve(built: Ended, run: Run) -> None:
    assert built.code == 0
    assert built.json == {"bits": 64, "generation": 1, "index": "demo", "items": 40}
    assert "encoding: 40 of 40" in built.err
    assert run("index", "show", "--json").json["indexes"][0]["generation"] == 1


def test_building_again_makes_the_next_generation_with_every_item(built: Ended, run: Run) -> None:
    again = run("index", "build", "demo", "--artifact", "second", "--data", "tiny", "--split", "all", "--bits", "32")
    assert again.code == 0
    shown = run("index", "show", "demo", "--json").json
    assert (shown["generation"], shown["items"], shown["bits"], shown["artifact"]) == (2, 50, 32, "second")
    assert shown["generations"] == [1, 2]
    assert shown["source"] == "tiny:all"


def test_bad_items_are_named(home: Path, run: Run) -> None:
    make_archive(home / "data" / "tiny" / "archive.zip", 50, bad=[7])
    built = run("index", "build", "demo", "--artifact", "first", "--data", "tiny")
    assert built.code == 0
    assert "skipped item-0007: expected a whole image" in built.err


def test_a_failed_build_leaves_nothing(home: Path, run: Run) -> None:
    make_archive(home / "data" / "tiny" / "archive.zip", 50, bad=range(50))
    built = run("index", "build", "demo", "--artifact", "first", "--data", "tiny")
    assert built.code == 1
    assert built.err.splitlines()[-1].startswith("error: expected at most 10% of 40 items to be bad")
    assert list((home / "indexes" / "demo").iterdir()) == []
    assert list((home / "jobs").iterdir()) == []


def test_verify_reads_the_whole_generation(built: Ended, home: Path, run: Run) -> None:
    assert run("index", "verify", "--json").json["items"] == 40
    path = home / "indexes" / "demo" / "generation-000001" / "text.codes"
    path.write_bytes(bytes(len(path.read_bytes())))
    verified = run("index", "verify", "demo")
    assert verified.code == 1
    assert "text.codes does not match its checksum" in verified.err


def test_rollback_restores_the_generation_before(built: Ended, run: Run) -> None:
    run("index", "build", "demo", "--artifact", "second", "--data", "tiny")
    assert run("index", "rollback", "demo", "--json").json["artifact"] == "first"
    again = run("index", "rollback", "demo")
    assert again.code == 2
    assert "no generation below the current one" in again.err


def test_encode_prints_one_code_an_input(tmp_path: Path, run: Run) -> None:
    image = tmp_path / "picture"
    image.write_bytes(png(5))
    texts = run("encode", "--artifact", "first", "--text", "a", "--text", "b", "--batch-size", 1, "--json").json
    hasher = FakeHasher(64, seed="first")
    assert texts == {
        "bits": 64,
        "fingerprint": hasher.fingerprint,
        "inputs": ["a", "b"],
        "codes": [code.tobytes().hex() for code in hasher.encode_texts(["a", "b"]).codes],
        "skipped": [],
        "truncated_tokens": 0,
    }
    images = run("encode", "--artifact", "first", "--image", image, "--bits", 16)
    code, path = images.out.splitlines()[1].split("\t")
    assert (len(code), path) == (4, str(image))


def test_encode_takes_a_folder_and_lists_what_it_leaves_out(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for name, data in (("b.png", png(1)), ("a.png", png(2)), ("more/c.png", png(3)), ("zero.png", b"")):
        (folder / name).write_bytes(data)
    encoded = run("encode", "--artifact", "first", "--image", folder, "--json").json
    assert [Path(name).name for name in encoded["inputs"]] == ["a.png", "b.png", "c.png"]
    assert [Path(one["id"]).name for one in encoded["skipped"]] == ["zero.png"]
    shown = run("encode", "--artifact", "first", "--image", folder)
    assert (shown.code, len(shown.out.splitlines())) == (0, 4)
    assert "zero.png: expected a whole image" in shown.err


def test_encode_fails_where_no_input_can_be_encoded(tmp_path: Path, run: Run) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    assert run("encode", "--artifact", "first", "--image", tmp_path / "empty.png").code != 0
    nothing = run("encode", "--artifact", "first", "--text", " ", "--text", "\u200b")
    assert nothing.code == 2
    assert "found none" in " ".join(nothing.err.split())


def test_search_finds_an_item_by_its_own_text_and_image(built: Ended, tmp_path: Path, run: Run) -> None:
    found = run("search", "--text", "title 8", "--target", "text", "--limit", 3, "--json").json
    assert found["hits"][0]["id"] == "item-0008"
    assert found["hits"][0]["tie"] == {"first_rank": 1, "last_rank": 1, "size": 1}
    assert (found["total"], len(found["hits"]), found["more"]) == (40, 3, True)
    image = tmp_path / "picture"
    image.write_bytes(png(3))
    near = run("search", "--image", image, "--target", "image", "--radius", 0)
    assert near.out.splitlines() == ["rank\tdistance\tid\ttext", "1\t0\titem-0003\ttitle 3"]


def test_search_goes_across_modalities_and_filters(built: Ended, run: Run) -> None:
    found = run("search", "--text", "title 8", "--filter", '{"labels": "odd"}', "--limit", 100, "--json").json
    assert len(found["hits"]) == 20
    assert all("odd" in hit["metadata"]["labels"] for hit in found["hits"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "--text", "x"], "no index yet; build one with `crossbit index build`"),
        (["index", "show", "x"], "no index yet"),
        (["encode", "--text", "x"], "expected artifact to be one of first, second; found the name of one"),
        (["encode", "--artifact", "x", "--text", "x"], "expected artifact to be one of first, second; found 'x'"),
        (["encode", "--artifact", "first"], "expected either --text or --image"),
        (["encode", "--artifact", "first", "--text", " "], "found an empty one"),
        (["encode", "--artifact", "first", "--image", "missing"], "cannot read missing"),
        (["encode", "--artifact", "first", "--image", __file__], "expected a whole image"),
        (["index", "build", "x", "--artifact", "x", "--data", "tiny"], "found 'x'"),
        (["index", "build", "x", "--artifact", "first", "--data", "x"], "no data set named 'x'; known: "),
        (["index", "build", "X!", "--artifact", "first", "--data", "tiny"], "expected an index name"),
        (["data", "check", "x"], "no data set named 'x'"),
        (["data", "build", "x"], "found 'x'"),
        (["import", "missing", "--name", "x"], "found nothing at missing"),
        (["import", __file__, "--name", "x"], "found another file"),
        (
            ["train", "baseline", "--data", "tiny"],
            "baseline needs at least 200 items with an image and a text, found 50",
        ),
        (
            ["train", "magic"],
            "expected a .toml file or one of "
            "baseline, baseline-pair, itq, lsh, pghmh, "
            "pghmh-coco, pghmh-lite, pghmh-mirflickr25k, pghmh-nuswide, pghmh-published, "
            "prompthash, prompthash-coco, prompthash-mirflickr25k, prompthash-nuswide, prompthash-published, "
            "prompthash-published-coco, prompthash-published-mirflickr25k, prompthash-published-nuswide, "
            "prompthash-tuned, random, soda, soda-coco, soda-mirflickr25k, soda-nuswide, soda-tuned"
            ", found 'magic'",
        ),
        (["evaluate", "x"], "no artifact named 'x'; known: first, second"),
        (["serve", "--host", "0.0.0.0"], "expected a loopback address"),  # noqa: S104 - refused
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments: list[str], message: str, run: Run) -> None:
    ended = run(*arguments)
    assert ended.code == 2
    assert message in " ".join(ended.err.replace("│", " ").split())
    assert "Traceback" not in ended.err


def test_search_refuses_what_is_not_a_filter(built: Ended, run: Run) -> None:
    for text, message in (("{", "expected a JSON object, but"), ("[]", "such as"), ('{"x": 1}', "known: labels")):
        ended = run("search", "--text", "x", "--filter", text)
        assert ended.code == 2
        assert message in " ".join(ended.err.replace("│", " ").split())


def test_an_index_whose_model_is_gone_says_so(built: Ended, home: Path, run: Run) -> None:
    (home / "artifacts" / "first" / "manifest.json").unlink()
    assert "found 'first'" in run("search", "--text", "x").err


def test_data_sets_are_listed_and_checked(home: Path, run: Run) -> None:
    listed = {entry["name"]: entry for entry in run("data", "list", "--json").json["data"]}
    assert (listed["tiny"]["items"], listed["tiny"]["database"]) == (50, 40)
    checked = run("data", "check", "tiny")
    assert checked.code == 1
    assert "expected split hash" in checked.out


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three pictures, one of them damaged."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, data in (("red-apple.png", png(1)), ("pear.png", png(2)), ("bad.png", b"")):
        (folder / name).write_bytes(data)
    return folder


def test_a_folder_is_imported_indexed_and_searched(photos: Path, run: Run) -> None:
    imported = run("import", photos, "--name", "mine", "--json")
    assert imported.json == {
        "data": "mine",
        "items": 2,
        "images": 2,
        "texts": 2,
        "classes": 0,
        "skipped": 1,
        "splits": {},
    }
    assert "skipped bad.png: expected a whole image" in imported.err
    assert "next: crossbit index build mine --artifact first --data mine" in imported.err
    assert run("index", "build", "mine", "--artifact", "first", "--data", "mine", "--json").json["items"] == 2
    found = run("search", "--index", "mine", "--text", "red apple", "--target", "text", "--json").json
    assert found["hits"][0]["metadata"] == {"file": "red-apple.png", "labels": []}


def test_building_says_which_items_a_split_keeps_out(run: Run) -> None:
    built = run("index", "build", "demo", "--artifact", "first", "--data", "tiny")
    assert "10 query and validation items are kept out for evaluation; --split all takes them in" in built.err
    whole = run("index", "build", "whole", "--artifact", "first", "--data", "tiny", "--split", "all")
    assert "kept out" not in whole.err


def test_models_are_listed_with_their_lengths(home: Path, run: Run) -> None:
    manifest = Manifest("first", "baseline", {}, "tiny-backbone", 1, 1, {"64": "b", "16": "a"}, {}, {}, {})
    for name in ("first", "second"):
        path = home / "artifacts" / name / "manifest.json"
        path.write_text(json.dumps(asdict(replace(manifest, name=name))), encoding="utf-8")
    listed = run("models", "--json").json["models"]
    assert [(entry["name"], entry["bits"]) for entry in listed] == [("first", "16, 64"), ("second", "16, 64")]


def test_licences_are_listed_of_artifacts_and_of_backbones(home: Path, run: Run) -> None:
    manifest = Manifest("first", "itq", {}, "b", 1, 1, {"64": "b"}, {"one": "MIT", "two": "MIT"}, {}, {})
    (home / "artifacts" / "first" / "manifest.json").write_text(json.dumps(asdict(manifest)), encoding="utf-8")
    shutil.rmtree(home / "artifacts" / "second")
    listed = run("models", "--json").json
    assert [entry["licences"] for entry in listed["models"]] == ["MIT"]
    licences = {entry["backbone"]: entry["licence"] for entry in listed["backbones"]}
    assert licences["effnet-lite0+minilm"] == "Apache-2.0"
    assert licences["clip:ViT-B-16-quickgelu:metaclip_fullcc"] == "CC-BY-NC-4.0 (no commercial use)"
    assert "CC-BY-NC-4.0 (no commercial use)" in run("models").out


METACLIP = "backbone=clip:ViT-B-16-quickgelu:metaclip_fullcc"


def test_weights_without_commercial_use_want_their_licence_accepted(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refused = run("train", "itq", "--data", "tiny", "--set", METACLIP)
    assert refused.code == 2
    assert "under CC-BY-NC-4.0, which forbids commercial use" in refused.err
    assert "--accept-licence" in refused.err
    accepted = run("train", "itq", "--data", "tiny", "--set", METACLIP, "--accept-licence")
    assert "train with --weights PATH" in accepted.err  # the next thing that is missing
    monkeypatch.setenv("CROSSBIT_ACCEPT_LICENCES", '["CC-BY-NC-4.0"]')
    assert "train with --weights PATH" in run("train", "itq", "--data", "tiny", "--set", METACLIP).err


def test_a_file_of_weights_is_named_on_the_command_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "damaged.pt"
    path.write_bytes(b"damaged")
    backbone = "backbone=clip:crossbit-tiny"
    ended = run("train", "itq", "--data", "tiny", "--set", backbone, "--weights", path)
    assert (
        f"state dict of crossbit-tiny, as .safetensors or as a .pt or .bin of tensors alone, found {path}" in ended.err
    )
    ended = run("train", "itq", "--data", "tiny", "--weights", path)
    assert "expected a backbone clip:ARCH:TAG" in ended.err


@pytest.fixture
def own_signal() -> Iterator[None]:
    """Gives SIGINT back to pytest afterwards."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def raising(error: BaseException) -> Callable[..., FakeHasher]:
    """Loads a hasher that fails at the first text."""

    class Failing(FakeHasher):
        def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
            raise error

    return lambda *arguments, **keywords: Failing()


def left_behind(home: Path) -> list[str]:
    """Everything in the home that a command wrote, but the lock of the jobs."""
    return sorted(path.name for place in ("indexes", "jobs") for path in (home / place).glob("*/*"))


@pytest.mark.usefixtures("own_signal")
def test_ctrl_c_ends_a_build_with_one_line_and_leaves_nothing(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "load_hasher", raising(KeyboardInterrupt()))
    ended = run("index", "build", "demo", "--artifact", "first", "--data", "tiny")
    assert ended.code == 130
    assert ended.err.strip() == "interrupted; nothing half-written was left behind"
    assert left_behind(home) == []


@pytest.mark.usefixtures("own_signal")
def test_ctrl_c_ends_an_import_with_one_line_and_leaves_nothing(
    home: Path, photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("model.data.importing.make_picture", interrupted)
    ended = run("import", photos, "--name", "mine")
    assert (ended.code, ended.err.strip()) == (130, "interrupted; nothing half-written was left behind")
    assert [path.name for path in (home / "data").iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/big/file"), "no space left on the disk at /big/file;"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "no space left on the disk;"),
        (sqlite3.OperationalError("database or disk is full"), "no space left on the disk;"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "no space left on the disk;"),
        (PermissionError(errno.EACCES, "Permission denied", "/its"), "may not read or write at /its (EACCES);"),
    ],
)
def test_trouble_with_the_disk_is_said_in_one_line(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    monkeypatch.setattr(options, "load_hasher", raising(error))
    ended = run("index", "build", "demo", "--artifact", "first", "--data", "tiny")
    assert ended.code == 1
    assert ended.err.startswith(f"error: {message}")
    assert left_behind(home) == []


def test_the_doctor_exits_with_1_where_something_is_broken(home: Path, run: Run) -> None:
    for manifest in home.glob("artifacts/*/manifest.json"):
        manifest.write_text("{}", encoding="utf-8")
    examined = run("doctor", "--json")
    broken = [one["check"] for one in examined.json["findings"] if one["level"] == "FAIL"]
    assert (examined.code, examined.json["ok"]) == (1, False)
    assert broken == ["artifact first", "artifact second"]
    shutil.rmtree(home / "artifacts")
    assert run("doctor").code == 0


def test_settings_that_make_no_sense_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSBIT_PORT", "many")
    ended = run("models")
    assert ended.code == 2
    assert "CROSSBIT_PORT: Input should be a valid integer" in " ".join(ended.err.replace("│", " ").split())
    monkeypatch.delenv("CROSSBIT_PORT")
    monkeypatch.setenv("CROSSBIT_SOURCES", "secret")
    ended = run("models")
    assert ended.code == 2
    assert 'field "sources" from source "EnvSettingsSource": expected JSON' in " ".join(
        ended.err.replace("│", " ").split()
    )
    assert "secret" not in ended.err


def test_an_error_without_a_message_of_ours_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(app.cli, "cli", broken)
    with pytest.raises(ZeroDivisionError):
        app.cli.main()


def test_every_error_tree_is_known(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise UnsupportedImage("not a picture")

    monkeypatch.setattr(app.cli, "cli", broken)
    with pytest.raises(SystemExit) as exit_info:
        app.cli.main()
    assert (exit_info.value.code, capsys.readouterr().err) == (2, "error: not a picture\n")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two pictures of your own."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in (900, 901):
        (folder / f"{number}.png").write_bytes(png(number))
    return folder


def test_own_pictures_are_appended_found_replaced_deleted_and_merged(run: Run, pictures: Path) -> None:
    run("index", "build", "demo", "--artifact", "first", "--data", "tiny")
    appended = run("index", "append", "demo", pictures, "--json").json
    assert appended == {"index": "demo", "appended": 2, "skipped": 0, "position": 2}
    ask = ("search", "--image", pictures / "900.png", "--target", "image", "--limit", "1", "--json")
    assert run(*ask).json["hits"][0] | {"rank": 1, "distance": 0} == run(*ask).json["hits"][0]
    found = run(*ask).json["hits"][0]["id"]
    shown = run("index", "show", "demo", "--json").json
    assert (shown["items"], shown["position"], shown["edits"]) == (42, 2, 2)
    assert run("index", "delete", "demo", found, "item-0000", "--json").json["deleted"] == 2
    assert run(*ask).json["hits"][0]["id"] != found
    merged = run("index", "compact", "demo", "--json").json
    assert (merged["generation"], merged["items"], merged["merged"]) == (2, 40, 3)
    assert run("index", "compact", "demo", "--json").json["merged"] == 0
    assert run("index", "verify", "demo", "--json").json["items"] == 40


def test_deleting_what_is_not_there_says_so(run: Run) -> None:
    run("index", "build", "demo", "--artifact", "first", "--data", "tiny")
    ended = run("index", "delete", "demo", "item-0000", "nothing")
    assert ended.code == 2
    assert "found 'nothing' that it does not have; nothing changed" in " ".join(ended.err.split())


def test_another_model_under_the_same_name_cannot_append(
    run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("index", "build", "demo", "--artifact", "first", "--data", "tiny")
    monkeypatch.setattr(options, "load_hasher", lambda path, bits, device: FakeHasher(bits, seed="another"))
    ended = run("index", "append", "demo", pictures)
    assert ended.code == 2
    assert "expected codes of the model that built the index" in " ".join(ended.err.split())


def test_show_tells_the_bytes_of_an_item(run: Run) -> None:
    run("index", "build", "demo", "--artifact", "first", "--data", "tiny")
    sizes = run("index", "show", "demo", "--json").json["bytes_per_item"]
    assert (sizes["codes"], sizes["lookup"]) == (16, 16)
    assert sizes["metadata"] > 0 < sizes["thumbnails"]


def test_a_check_of_workers_fails_where_nobody_works(run: Run) -> None:
    ended = run("worker", "--check")
    assert (ended.code, ended.err) == (1, "workers: none\n")


def test_a_check_of_workers_names_those_that_work(run: Run, home: Path) -> None:
    _, lock = take_worker_id(home / "jobs", "night-shift")
    with closing(lock):
        ended = run("worker", "--check")
    assert (ended.code, ended.err) == (0, "workers: night-shift\n")
