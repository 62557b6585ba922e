"""SHA-256 over configuration and weights: the identity of everything that decides a code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from encoders.errors import WeightsAltered


def fingerprint(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 over the JSON of ``config`` and each tensor in name order (name, dtype, shape, bytes)."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


def check_file(path: Path, expected_sha256: str) -> Path:
    """Return the path if the file is the expected one.

    Raises:
        WeightsAltered: another hash; the message names file, expected and found hash.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected_sha256:
        raise WeightsAltered(f"{path}: expected SHA-256 {expected_sha256}, found {found}; reinstall its package")
    return path
