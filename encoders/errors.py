"""Errors of the encoders package.

EncoderError
├── BackboneNotFound    no backbone of that name, or its weights are not on this machine
├── WeightsAltered      a weight or tokenizer file is not the one this version was made with
├── DeviceUnavailable   the requested device does not exist here
└── TextError           a text that cannot be encoded, such as an empty one
"""


class EncoderError(Exception):
    """Base of every error that the encoders package raises on purpose."""


class BackboneNotFound(EncoderError):
    """No backbone of that name, or its weights are not on this machine."""


class WeightsAltered(EncoderError):
    """A weight or tokenizer file is not the one this version was made with."""


class DeviceUnavailable(EncoderError):
    """The requested device does not exist on this machine."""


class TextError(EncoderError):
    """The text cannot be encoded."""
