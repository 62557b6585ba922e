"""Licences of pretrained weights: shown to whoever chooses a backbone, accepted where they forbid commercial use."""

from collections.abc import Collection

from encoders.names import PRESETS, licence_of
from encoders.names import with_file as with_file
from model.errors import LicenceNotAccepted


def require_licence(backbone: str, accepted: Collection[str]) -> None:
    """Pass where the backbone's weights may be used commercially, or their licence is accepted or not known.

    Raises:
        LicenceNotAccepted: names the licence.
    """
    licence = licence_of(backbone)
    if licence.commercial is False and licence.name not in accepted:
        raise LicenceNotAccepted(
            f"the weights of {backbone} are under {licence.name}, which forbids commercial use ({licence.source}); "
            f"train with --accept-licence, serve with CROSSBIT_ACCEPT_LICENCES='[\"{licence.name}\"]'"
        )


def list_presets() -> list[dict[str, str]]:
    """Backbones with a name of their own: name, what it is, licence of its weights and where that is said."""
    return [
        {"backbone": name, "what": what, "licence": str(licence_of(name)), "source": licence_of(name).source}
        for name, what in PRESETS.items()
    ]
