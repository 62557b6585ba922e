"""Trains runs one after another, on one process or on those that ``torchrun`` starts, and notes each step's losses.

``train_ranks.py HOME RUNS``: RUNS is a JSON file, name of a run -> recipe and overrides. ``HOME/steps/NAME.jsonl`` then
holds the named losses of its steps, a line each, as the first process has them.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tiny_clip

from model import ranks
from model.items import ItemArchive
from model.training import run

FIXTURE = Path(__file__).parent.parent / "fixtures" / "openclipart-200.zip"


def main(home: Path, runs: Mapping[str, tuple[str, list[str]]]) -> None:
    step, notes = run._step, list[str]()

    def noted(*arguments: Any) -> Mapping[str, float]:  # noqa: ANN401  those of the trainer's step
        notes.append(json.dumps(values := step(*arguments)))
        return values

    run._step = noted
    archive = ItemArchive.open(FIXTURE)
    with ranks.joined("cpu"):
        for name, (recipe, overrides) in runs.items():
            notes.clear()
            tiny_clip.train_tiny(archive, recipe, tuple(overrides), name, tiny_clip.folders_in(home))
            if ranks.rank() == 0:
                (home / "steps").mkdir(exist_ok=True)
                (home / "steps" / f"{name}.jsonl").write_text("\n".join(notes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
