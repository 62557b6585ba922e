"""The model that ships with the package for a service's first start; `make demo-artifact` trains it."""

from importlib.resources import files
from pathlib import Path

from safetensors import safe_open

from model.artifact import verify_artifact

FOLDER = Path(str(files("model") / "artifacts" / "demo"))
ALIGNMENT = Path(str(files("encoders") / "assets" / "alignment.safetensors"))


def test_it_is_what_its_fingerprints_say() -> None:
    assert verify_artifact(FOLDER, "cpu").name == "demo"


def test_it_is_small_with_the_alignment_head_that_it_stands_on() -> None:
    size = sum(path.stat().st_size for path in (*FOLDER.iterdir(), ALIGNMENT))
    assert size <= 6_000_000


def test_it_holds_heads_and_no_tower() -> None:
    with safe_open(FOLDER / "weights.safetensors", framework="np") as weights:
        parts = {name.split(".")[0] for name in weights.keys()}  # noqa: SIM118  it is no dictionary
    assert parts == {"heads", "image_input", "mlp", "text_input"}
