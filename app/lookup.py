"""Names given on the command line, turned into what they name; without a name, the only thing there is."""

from pathlib import Path

from app.jobs import ModelNotFound
from app.settings import Settings
from index.errors import IndexNotFound
from index.generations import list_indexes
from model.manifest import list_artifacts


def find_artifact(settings: Settings, name: str | None) -> str:
    """The artifact of this name, or the only one.

    Raises:
        ModelNotFound: the message lists those that exist.
    """
    known = list_artifacts(settings.artifacts_dir)
    if name is None and len(known) == 1:
        return known[0]
    if name not in known:
        raise ModelNotFound(_missing("artifact", name, known, "train one with `crossbit train`"))
    return name


def any_artifact(settings: Settings) -> str | None:
    """An artifact to name in an example: the demo where it is there, else the first."""
    known = list_artifacts(settings.artifacts_dir)
    return "demo" if "demo" in known else next(iter(known), None)


def find_index(settings: Settings, name: str | None) -> Path:
    """The directory of the index of this name, the default one, or the only one.

    Raises:
        IndexNotFound: the message lists those that exist.
    """
    known = list_indexes(settings.indexes_dir)
    name = name or settings.default_index or (known[0] if len(known) == 1 else None)
    if name not in known:
        raise IndexNotFound(_missing("index", name, known, "build one with `crossbit index build`"))
    return settings.indexes_dir / name


def _missing(kind: str, name: str | None, known: list[str], remedy: str) -> str:
    found = "the name of one" if name is None else f"{name!r}"
    return f"expected {kind} to be one of {', '.join(known)}; found {found}" if known else f"no {kind} yet; {remedy}"
