"""The model card of an artifact, written from its manifest."""

from model.artifact import BIT_RULE
from model.manifest import Manifest

TEMPLATE = """# {name}

Binary codes of {lengths} bits for images and texts in one Hamming space. Method `{method}` on the frozen backbone
`{backbone}`. A code depends on its own input alone: no label and no other input reaches the encoder.

| | |
|---|---|
| trained on | {data_name} {revision} ({licence}), split {split_hash}, caption variant `{captions}` |
| training pairs | {train}, validation {validation}, classes {classes} |
| supervision | {supervision} |
| selected | epoch {best_epoch}: lone tie-aware mAP of the validation queries {score:.3f}, mean of both directions |
| bit rule | {bit_rule} |
| weights' licences | {licences} |

## Fingerprints

{fingerprints}

## Limits

Trained on one data set; figures on other data were not measured. `crossbit evaluate {name}` prints the figures on the
test queries of its own data set.

## Recipe

```toml
{recipe}```
"""


def write_card(manifest: Manifest) -> str:
    """Markdown."""
    data, training = manifest.data, manifest.training
    return TEMPLATE.format(
        name=manifest.name,
        lengths=", ".join(map(str, sorted(manifest.config["bits"]))),
        method=manifest.method,
        backbone=manifest.backbone,
        data_name=data["name"],
        revision=data["revision"],
        licence=data["licence"],
        split_hash=data["split_hash"][:12] or "none",
        captions=data["captions"],
        train=data["train"],
        validation=data["validation"],
        classes=len(data["class_names"]),
        supervision="labels of the training items" if data["class_names"] else "pairs alone, no labels",
        best_epoch=training["best_epoch"],
        score=training["validation_map"],
        bit_rule=BIT_RULE,
        licences=", ".join(f"{name}: {licence}" for name, licence in sorted(manifest.licences.items())),
        fingerprints="\n".join(
            f"- {bits} bits: `{value}`"
            for bits, value in sorted(manifest.fingerprints.items(), key=lambda pair: int(pair[0]))
        ),
        recipe=training["recipe"],
    )
