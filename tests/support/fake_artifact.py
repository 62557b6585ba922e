"""An artifact that a fake hasher stands in for: a manifest without weights."""

import json
from dataclasses import asdict
from pathlib import Path

from model.manifest import MANIFEST, Manifest


def write_fake_artifact(folder: Path) -> None:
    """Write the manifest of an artifact that is named after its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(folder.name, "fake", {}, "none", 1, 1, {}, {"weights": "MIT"}, {}, {})
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest)), encoding="utf-8")
