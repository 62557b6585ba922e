"""The model card of an artifact, written from its manifest."""

from collections.abc import Mapping
from typing import Any

from model.artifact import BIT_RULE
from model.manifest import Manifest

TEMPLATE = """# {name}

Binary codes of {lengths} bits for images and texts in one Hamming space. Method `{method}` on the frozen backbone
`{backbone}`. A code depends on its own input alone: no label and no other input reaches the encoder.{style}

| | |
|---|---|
| trained on | {data_name} {revision} ({licence}), split {split_hash}, caption variant `{captions}` |
| training items | {train}, validation {validation}, classes {classes} |
| supervision | {supervision} |
| validation | {validation_score} |
| bit rule | {bit_rule} |
| weights' licences | {licences} |

## Fingerprints

{fingerprints}

## Limits

Trained on one data set; figures on other data were not measured. {figures}

## Recipe

```toml
{recipe}```
"""
STYLES = {
    "soda": """

SODA-style, not a reproduction: the paper's structure (arXiv 2510.09664) is followed, while its formulas, constants and
figures are not known; none of the figures here are the paper's."""
}
MEASURED = """`crossbit evaluate {name}` prints the figures on the
test queries of its own data set."""
UNMEASURED = """Its own data set has no labels, so retrieval
with these codes was not measured at all."""


def write_card(manifest: Manifest) -> str:
    """Markdown."""
    data, training = manifest.data, manifest.training
    return TEMPLATE.format(
        name=manifest.name,
        lengths=", ".join(map(str, sorted(manifest.config["bits"]))),
        method=manifest.method,
        style=STYLES.get(manifest.method, ""),
        backbone=manifest.backbone,
        data_name=data["name"],
        revision=data["revision"],
        licence=data["licence"],
        split_hash=data["split_hash"][:12] or "none",
        captions=data["captions"],
        train=data["train"],
        validation=data["validation"],
        classes=len(data["class_names"]),
        supervision=training["supervision"],
        validation_score=_validation_score(training),
        figures=MEASURED.format(name=manifest.name) if data["class_names"] else UNMEASURED,
        bit_rule=BIT_RULE,
        licences=", ".join(f"{name}: {licence}" for name, licence in sorted(manifest.licences.items())),
        fingerprints="\n".join(
            f"- {bits} bits: `{value}`"
            for bits, value in sorted(manifest.fingerprints.items(), key=lambda pair: int(pair[0]))
        ),
        recipe=training["recipe"],
    )


def _validation_score(training: Mapping[str, Any]) -> str:  # Any: JSON
    if training["validation_map"] is None:
        return "none: no validation split"
    epoch = "" if training["best_epoch"] is None else f"epoch {training['best_epoch']}, "
    return (
        f"{epoch}tie-aware mAP {training['validation_map']:.3f} of the validation queries at "
        f"{training['validation_bits']} bits, mean of {', '.join(training['validation_directions'])}"
    )
