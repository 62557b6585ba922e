"""What the commands share: options, headings, exit codes, settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from app.settings import Settings
    from model.hasher import Hasher

FAILED = 1  # something is broken
USAGE = 2  # something was asked that cannot be done
INTERRUPTED = 130  # Ctrl-C, as shells count it

DATA_AND_MODELS, SEARCHING, SERVING = "Data and models", "Indexes and search", "Service"  # headings of --help

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Url = Annotated[
    str | None,
    typer.Option(
        help="Ask this service, such as http://127.0.0.1:8000, with the key in CROSSBIT_API_KEY if it has keys."
    ),
]
Bits = Annotated[int, typer.Option(min=8, help="Code length.")]


def open_settings() -> "Settings":
    """The settings of this process; a wrong one ends the command with its message."""
    from app.settings import InvalidSettings, load_settings

    try:
        return load_settings()
    except InvalidSettings as error:
        raise typer.BadParameter(str(error)) from error


def load_hasher(artifact_dir: Path, bits: int, device: str, cache_dir: Path | None = None) -> "Hasher":
    """Load an artifact with everything that makes codes, which takes seconds to import."""
    from model import artifact

    return artifact.load_hasher(artifact_dir, bits, device, cache_dir)


def given(**values: object) -> dict[str, Any]:  # Any: each option's own type
    """The options that were given."""
    return {name: value for name, value in values.items() if value is not None}
