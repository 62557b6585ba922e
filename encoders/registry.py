"""Backbones by name."""

from functools import lru_cache

from encoders.chunks import split_name
from encoders.device import make_repeatable, resolve_device
from encoders.errors import BackboneNotFound
from encoders.names import DEFAULT as DEFAULT
from encoders.names import PREFIX
from encoders.protocol import Backbone


@lru_cache(maxsize=2)
def load_backbone(name: str = DEFAULT, device: str = "auto") -> Backbone:
    """Load a frozen backbone onto a device: the bundled one, or ``clip:ARCH:WEIGHTS``; asked again, the same object.

    A name that ends in ``@head`` reads the first chunk of a text alone.

    Raises:
        BackboneNotFound: no such backbone, or its weights are not on this machine.
        DeviceUnavailable: CUDA was asked for by name and there is none.
    """
    target = resolve_device(device)
    make_repeatable(target)
    towers, _ = split_name(name)
    if towers == DEFAULT:
        from encoders.bundled import BundledBackbone

        return BundledBackbone(name).to(target)
    if towers.startswith(PREFIX):
        try:
            from encoders.clip import ClipBackbone  # open_clip takes seconds to import
        except ModuleNotFoundError as error:
            raise BackboneNotFound(f"{name!r} needs open_clip; pip install 'crossbit[clip]'") from error
        return ClipBackbone(name).to(target)
    raise BackboneNotFound(f"expected {DEFAULT!r} or clip:ARCH:WEIGHTS, found {name!r}")
