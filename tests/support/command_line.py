"""The command line in this process: what a command ended with, told and complained of."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny_home import load_fake

import app.cli
from app.cli import options
from model.fake import FakeHasher


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.out)

    @property
    def said(self) -> str:
        """What it complained of, without the frame and the line breaks of the terminal."""
        return " ".join(self.err.replace("│", " ").split())


Run = Callable[..., Ended]


def command_line(home: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Commands over a home, with ``load_fake`` in place of trained models."""

    def load(artifact_dir: Path, bits: int, device: str, cache_dir: Path | None = None) -> FakeHasher:
        return load_fake(artifact_dir, bits, device)

    def run(*arguments: object) -> Ended:
        patch.setattr(sys, "argv", ["crossbit", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            app.cli.main()
        out, err = capsys.readouterr()
        return Ended(int(exit_info.value.code or 0), out, err)

    patch.setenv("CROSSBIT_HOME", str(home))
    patch.setattr(options, "load_hasher", load)
    return run
