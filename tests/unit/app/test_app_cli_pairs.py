"""Pairs on the command line, from building an index with a model that fuses to searching it."""

import json
from pathlib import Path

import pytest
from command_line import Run, command_line
from fake_artifact import write_fake_artifact
from tiny_home import FUSING, make_home, png

from model.fake import FusingFakeHasher
from model.images import decode_image

HASHER = FusingFakeHasher(64, seed=FUSING)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line over a home with a model that fuses and two that do not."""
    home = make_home(tmp_path / "home", 10)
    write_fake_artifact(home / "artifacts" / FUSING)
    return command_line(home, monkeypatch, capsys)


@pytest.fixture
def built(run: Run) -> Run:
    """The index ``demo`` of eight items with both parts."""
    assert run("index", "build", "demo", "--artifact", FUSING, "--data", "tiny").code == 0
    return run


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    """A manifest of an item with an image alone and one with a text alone."""
    (tmp_path / "new.png").write_bytes(png(77))
    lines = [{"id": "drawn", "image": "new.png"}, {"id": "written", "text": "words alone"}]
    path = tmp_path / "new.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"picture-{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(png(number))
    return paths


def fused(number: int, text: str) -> str:
    return HASHER.encode_pairs([decode_image(png(number))], [text]).codes.tobytes().hex()


def presence_of(run: Run) -> dict[str, int]:
    counted: dict[str, int] = run("index", "show", "demo", "--json").json["codes"]["pair"]["presence"]
    return counted


def test_an_image_with_a_text_searches_the_pairs(built: Run, pictures: list[Path]) -> None:
    found = built("search", "--image", pictures[1], "--text", "title 1", "--limit", 1, "--json").json
    (hit,) = found["hits"]
    assert (hit["id"], hit["distance"]) == ("item-0001", 0)
    assert hit["presence"] == {"image": True, "text": True}


def test_a_text_or_an_image_alone_searches_the_pairs_too(built: Run, pictures: list[Path]) -> None:
    for asked in (["--text", "title 1"], ["--image", pictures[1]]):
        assert built("search", *asked, "--target", "pair", "--json").json["hits"][0]["id"] == "item-0001"


def test_hits_of_other_columns_say_nothing_of_pairs(built: Run) -> None:
    assert "presence" not in built("search", "--text", "title 1", "--json").json["hits"][0]


def test_hits_are_listed_with_what_they_were_made_from(built: Run, partial: Path) -> None:
    built("index", "append", "demo", partial)
    asked = ["search", "--text", "words alone", "--target", "pair", "--limit", 1]
    assert built(*asked).out.splitlines() == [
        "rank\tdistance\tid\ttext\tmade from",
        "1\t0\twritten\twords alone\ttext",
    ]


def test_pairs_are_appended_merged_counted_and_verified(built: Run, partial: Path) -> None:
    assert presence_of(built) == {"image_and_text": 8, "image_only": 0, "text_only": 0}
    assert built("index", "append", "demo", partial, "--json").json["appended"] == 2
    assert presence_of(built) == {"image_and_text": 8, "image_only": 1, "text_only": 1}
    assert built("index", "compact", "demo").code == 0
    assert presence_of(built) == {"image_and_text": 8, "image_only": 1, "text_only": 1}
    assert built("index", "verify", "demo", "--json").json["codes"] == {"image": 9, "pair": 10, "text": 9}


def test_every_text_of_an_item_gets_a_pair_code(run: Run) -> None:
    run("index", "build", "demo", "--artifact", FUSING, "--data", "tiny", "--texts", "all")
    assert run("index", "verify", "demo", "--json").json["codes"] == {"image": 8, "pair": 16, "text": 16}
    assert presence_of(run) == {"image_and_text": 8, "image_only": 0, "text_only": 0}


def test_a_rebuild_takes_over_pairs_of_unchanged_items(built: Run) -> None:
    again = built("index", "build", "demo", "--artifact", FUSING, "--data", "tiny", "--split", "all")
    assert again.code == 0
    assert presence_of(built) == {"image_and_text": 10, "image_only": 0, "text_only": 0}


def test_an_index_of_a_model_that_does_not_fuse_shows_no_pairs(run: Run) -> None:
    run("index", "build", "demo", "--artifact", "first", "--data", "tiny")
    assert set(run("index", "show", "demo", "--json").json["codes"]) == {"image", "text"}


def test_a_pair_is_encoded(run: Run, pictures: list[Path]) -> None:
    ended = run("encode", "--artifact", FUSING, "--pair", "--image", pictures[0], "--text", "at night", "--json")
    assert (ended.json["codes"], ended.json["inputs"]) == ([fused(0, "at night")], [f"{pictures[0]} + at night"])


def test_several_pairs_are_encoded_in_order(run: Run, pictures: list[Path]) -> None:
    named = [part for path in pictures for part in ("--image", path)]
    each = run("encode", "--artifact", FUSING, "--pair", *named, "--text", "a", "--text", "b", "--text", "c", "--json")
    assert each.json["codes"] == [fused(0, "a"), fused(1, "b"), fused(2, "c")]
    all_of_them = run("encode", "--artifact", FUSING, "--pair", *named, "--text", "a", "--json")
    assert all_of_them.json["codes"] == [fused(number, "a") for number in range(3)]


def test_a_folder_of_images_is_fused_with_one_text(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, data in (("a.png", png(2)), ("b.png", b""), ("c.png", png(1))):
        (folder / name).write_bytes(data)
    ended = run("encode", "--artifact", FUSING, "--pair", "--image", folder, "--text", "a", "--json")
    assert ended.json["codes"] == [fused(2, "a"), fused(1, "a")]
    assert [one["id"] for one in ended.json["skipped"]] == [f"{folder / 'b.png'} + a"]


def test_a_pair_whose_text_is_blank_is_skipped_among_others(run: Run, pictures: list[Path]) -> None:
    named = [part for path in pictures[:2] for part in ("--image", path)]
    ended = run("encode", "--artifact", FUSING, "--pair", *named, "--text", "a", "--text", "\u200b", "--json")
    assert (ended.json["codes"], len(ended.json["skipped"])) == ([fused(0, "a")], 1)


def test_cut_texts_are_told(built: Run, pictures: list[Path]) -> None:
    long = "word " * 300
    searched = built("search", "--image", pictures[0], "--text", long, "--json")
    assert searched.json["truncated_tokens"] == 44
    assert "44 tokens of text did not reach the encoder" in built("search", "--text", long).err
    encoded = built("encode", "--artifact", FUSING, "--pair", "--image", pictures[0], "--text", long)
    assert "44 tokens of text did not reach the encoder" in encoded.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "a", "--text", "b"], "expected either --text or --image"),
        (["--pair", "--text", "b"], "--pair: expected images with a --text for each"),
        (["--pair", "--image", "a"], "found 1 images and 0 texts"),
        (
            ["--pair", "--image", "a", "--image", "b", "--image", "c", "--text", "d", "--text", "e"],
            "found 3 images and 2",
        ),
        (["--pair", "--image", "missing", "--text", "b"], "cannot read missing"),
        (["--pair", "--image", __file__, "--text", " "], "found an empty one"),
    ],
)
def test_what_makes_no_pair(run: Run, arguments: list[str], message: str) -> None:
    ended = run("encode", "--artifact", FUSING, *arguments)
    assert ended.code == 2
    assert message in ended.said


def test_a_search_needs_something_to_ask_with(built: Run) -> None:
    ended = built("search")
    assert (ended.code, "expected --text, --image, or both to fuse them" in ended.said) == (2, True)


def test_a_model_that_does_not_fuse_says_what_to_do(run: Run, pictures: list[Path]) -> None:
    run("index", "build", "demo", "--artifact", "first", "--data", "tiny")
    pair = ["--image", pictures[0], "--text", "a"]
    for ended in (run("search", *pair), run("encode", "--artifact", "first", "--pair", *pair)):
        assert ended.code == 2
        assert "found 'first', which encodes image, text; use one of those, or train a model by a method" in ended.said
    assert "no column 'pair'; it has: image, text" in run("search", "--text", "a", "--target", "pair").said
