"""Errors of the encoders package.

EncoderError
├── BackboneNotFound    no backbone of that name, or its weights are not on this machine
├── WeightsAltered      a weight or tokenizer file is not the one this version was made with
├── WeightsUnusable     a checkpoint that does not fit its architecture, or cannot be read safely
├── NoTowerAccess       an architecture that gives pooled features alone
├── DeviceUnavailable   the requested device does not exist here
└── TextError           a text that cannot be encoded, such as an empty one
"""


class EncoderError(Exception):
    """Base of every error that the encoders package raises on purpose."""


class BackboneNotFound(EncoderError):
    """No backbone of that name, or its weights are not on this machine."""


class WeightsAltered(EncoderError):
    """A weight or tokenizer file is not the one this version was made with."""


class WeightsUnusable(EncoderError):
    """A checkpoint does not fit its architecture, or cannot be read without running code from it."""


class NoTowerAccess(EncoderError):
    """An architecture gives pooled features alone: no token states, no blocks to tune."""


class DeviceUnavailable(EncoderError):
    """The requested device does not exist on this machine."""


class TextError(EncoderError):
    """The text cannot be encoded."""
