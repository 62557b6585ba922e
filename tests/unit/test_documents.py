"""What README and docs tell people to type exists, and what they link to is there."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from app.cli import cli

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "docs" / "operations" / "README.md"]


def typed_commands() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        for block in re.findall(r"```(?:bash|sh)\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
            for line in re.sub(r"\\\n", " ", block).splitlines():
                command = re.match(r"(?:\S+=\S+ )*(?:\.venv/bin/)?crossbit (.+)", line.strip())
                if command:
                    yield document.name, command[1]


@pytest.mark.parametrize(("document", "line"), list(typed_commands()))
def test_a_documented_command_exists_with_its_options(document: str, line: str) -> None:
    words = [word for word in shlex.split(line, comments=True) if word not in {"&", "|", ">"}]
    command = typer.main.get_command(cli)
    while hasattr(command, "commands") and words:
        assert words[0] in command.commands, f"{document}: crossbit {line}"
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in options, f"{document}: {word} in crossbit {line}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_make_targets_named_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    texts = [path.read_text(encoding="utf-8") for path in DOCUMENTS]
    named = {name for text in texts for name in re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.MULTILINE)}
    assert named - targets == set()
