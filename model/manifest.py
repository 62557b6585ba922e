"""``manifest.json`` of an artifact: what a model is, readable without loading it (and so without torch)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import ArtifactError

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What decides an artifact's codes, and where they were learned."""

    name: str
    method: str
    config: Mapping[str, Any]  # of the method
    backbone: str
    image_dim: int
    text_dim: int
    fingerprints: Mapping[str, str]  # code length -> fingerprint
    licences: Mapping[str, str]
    data: Mapping[str, Any]  # data set, revision, split hash, caption variant, class names in column order
    training: Mapping[str, Any]  # recipe, supervision, best epoch and its validation score
    format: int = FORMAT

    @property
    def lengths(self) -> tuple[int, ...]:
        """Code lengths that the artifact serves, ascending."""
        return tuple(sorted(map(int, self.fingerprints)))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact.

    Raises:
        ArtifactError: there is none, it is damaged, or of a newer format.
    """
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw.get("format") != FORMAT:
            raise ArtifactError(f"{path} has format {raw.get('format')!r}, this version reads {FORMAT}; upgrade")
        return Manifest(**raw)
    except FileNotFoundError as error:
        known = ", ".join(list_artifacts(folder.parent)) or "none"
        raise ArtifactError(f"no artifact named {folder.name!r}; known: {known}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is not an artifact's manifest: {error}; train the artifact again") from error


def list_artifacts(artifacts_dir: Path) -> list[str]:
    """Names of the artifacts in a folder, sorted."""
    return sorted(path.parent.name for path in artifacts_dir.glob(f"*/{MANIFEST}"))


def artifact_stamp(folder: Path) -> tuple[int, ...]:
    """Numbers that differ when an artifact was replaced since; none where there is no artifact. No file is read."""
    try:
        found = (folder / MANIFEST).stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_mtime_ns
