"""Keyword queries on the command line, with a small trained model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_clip
from typer.testing import CliRunner, Result

from app.cli import cli
from model.artifact import load_hasher
from model.errors import KeywordError, ModalityError
from model.items import ItemArchive

SMALL = (
    f"backbone={tiny_clip.BACKBONE}",
    "config.bits=[16, 64]",
    "config.width=32",
    "config.hidden=32",
    "optimiser.batch=50",
    "optimiser.epochs=2",
    "selection.bits=16",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, archive: ItemArchive) -> Path:
    """A data set, a model that takes keywords and one that does not, and an index of the first."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "data" / archive.info.name).mkdir(parents=True)
    shutil.copy(archive.path, folder / "data" / archive.info.name / "archive.zip")
    for name, recipe in (("two-stage", "soda"), ("plain", "baseline")):
        tiny_clip.train_tiny(archive, recipe, SMALL, name, tiny_clip.folders_in(folder))
    built = run(folder, "index", "build", "drawings", "--artifact", "two-stage", "--data", archive.info.name)
    assert built.exit_code == 0, built.output
    return folder


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), env={"CROSSBIT_HOME": str(home), "CROSSBIT_DEVICE": "cpu"})


def shown(home: Path, *arguments: str) -> Any:  # noqa: ANN401 - JSON
    result = run(home, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def two_names(archive: ItemArchive) -> str:
    return ", ".join(archive.info.class_names[2:4])


def test_keywords_search_the_images(home: Path, archive: ItemArchive) -> None:
    found = shown(home, "search", "--keywords", two_names(archive), "--limit", "3")
    assert len(found["hits"]) == 3
    code = load_hasher(home / "artifacts" / "two-stage", 64, "cpu").encode_keywords([two_names(archive)]).codes
    nearest = shown(home, "encode", "--artifact", "two-stage", "--keywords", two_names(archive))
    assert nearest["codes"] == [code.tobytes().hex()]
    distances = [hit["distance"] for hit in found["hits"]]
    assert distances == sorted(distances)


def test_keywords_may_search_the_texts(home: Path, archive: ItemArchive) -> None:
    images, texts = (
        shown(home, "search", "--keywords", two_names(archive), "--target", target)["hits"]
        for target in ("image", "text")
    )
    assert [hit["id"] for hit in images] != [hit["id"] for hit in texts]


def test_several_sets_of_keywords_are_encoded_in_order(home: Path, archive: ItemArchive) -> None:
    one, other = archive.info.class_names[:2]
    found = shown(home, "encode", "--artifact", "two-stage", "--keywords", one, "--keywords", f"{other},{one}")
    assert found["inputs"] == [one, f"{other},{one}"]
    assert len(set(found["codes"])) == 2


def test_an_unknown_class_is_named(home: Path) -> None:
    error = run(home, "search", "--keywords", "unicorn").exception
    assert isinstance(error, KeywordError)
    assert "found 'unicorn'; known: " in str(error)


def test_a_model_without_the_entry_is_named(home: Path) -> None:
    error = run(home, "encode", "--artifact", "plain", "--keywords", "dog").exception
    assert isinstance(error, ModalityError)
    assert "expected a model that takes keywords, found 'plain'" in str(error)


@pytest.mark.parametrize("other", [["--text", "a dog"], ["--image", "x.png"]])
@pytest.mark.parametrize("command", ["search", "encode"])
def test_keywords_go_with_nothing_else(home: Path, command: str, other: list[str]) -> None:
    artifact = ["--artifact", "two-stage"] if command == "encode" else []
    result = run(home, command, *artifact, "--keywords", "dog", *other)
    assert result.exit_code == 2
    assert "--keywords" in result.output


def test_evaluation_tells_keyword_queries_apart(home: Path) -> None:
    options = ["--bits", "16", "--captions", "title", "--no-report"]
    found = shown(home, "evaluate", "two-stage", *options)
    assert set(found) == {"lone", "keywords"}
    assert set(found["keywords"]) == {"keywords_to_image"}
    assert found["keywords"]["keywords_to_image"]["16"]["masks"]["query"] == ["true labels"]
    assert set(found["lone"]) == {"image_to_image", "image_to_text", "text_to_image", "text_to_text"}
    assert set(shown(home, "evaluate", "plain", *options)) == {"lone"}


def test_the_report_shows_lone_codes_alone(home: Path) -> None:
    result = run(home, "evaluate", "two-stage", "--bits", "16", "--captions", "title")
    assert result.exit_code == 0, result.output
    report = json.loads((home / "runs" / "two-stage" / "report" / "report.json").read_text())
    assert set(report["figures"]) == {"lone"}
