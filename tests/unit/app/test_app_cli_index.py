"""Building, searching and editing an index on the command line, and codes without one."""

from pathlib import Path

import pytest
from command_line import Ended, Run
from tiny_home import make_archive, png

from app.cli import options
from model.fake import FakeHasher


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
    assert "found none" in nothing.said


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


def test_search_refuses_what_is_not_a_filter(built: Ended, run: Run) -> None:
    for text, message in (("{", "expected a JSON object, but"), ("[]", "such as"), ('{"x": 1}', "known: labels")):
        ended = run("search", "--text", "x", "--filter", text)
        assert ended.code == 2
        assert message in ended.said


def test_an_index_whose_model_is_gone_says_so(built: Ended, home: Path, run: Run) -> None:
    (home / "artifacts" / "first" / "manifest.json").unlink()
    assert "found 'first'" in run("search", "--text", "x").err


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
    assert "found 'nothing' that it does not have; nothing changed" in ended.said


def test_another_model_under_the_same_name_cannot_append(
    run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("index", "build", "demo", "--artifact", "first", "--data", "tiny")
    monkeypatch.setattr(options, "load_hasher", lambda path, bits, device: FakeHasher(bits, seed="another"))
    ended = run("index", "append", "demo", pictures)
    assert ended.code == 2
    assert "expected codes of the model that built the index" in ended.said


def test_show_tells_the_bytes_of_an_item(run: Run) -> None:
    run("index", "build", "demo", "--artifact", "first", "--data", "tiny")
    sizes = run("index", "show", "demo", "--json").json["bytes_per_item"]
    assert (sizes["codes"], sizes["lookup"]) == (16, 16)
    assert sizes["metadata"] > 0 < sizes["thumbnails"]
