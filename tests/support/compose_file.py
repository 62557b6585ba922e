"""docker-compose.yml as it is without any variable set."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

COMPOSE_FILE = Path(__file__).parents[2] / "docker-compose.yml"


@cache
def composed() -> Mapping[str, Any]:
    """The whole file, every variable with its default."""
    raw = json.dumps(yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8")))
    document: Mapping[str, Any] = json.loads(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", raw))
    return document


def service(name: str) -> Mapping[str, Any]:
    """One of its services."""
    found: Mapping[str, Any] = composed()["services"][name]
    return found
