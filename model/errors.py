"""Errors of the model package.

ModelError
├── ArtifactError           an artifact is missing, incomplete or altered
├── ArchiveError            a data archive is missing, malformed or altered
├── RecipeError             a recipe holds an unknown, missing or contradictory value
├── TrainingDiverged        a loss or gradient is not finite
├── LicenceNotAccepted      the licence of a backbone's weights forbids commercial use, and nobody accepted it
├── ModalityError           the method cannot encode this modality
├── KeywordError            a keyword is no class of the model
├── OracleError             the method has no encoder that takes labels
├── CodeFileError           codes made elsewhere cannot be read
└── ImageError              an image cannot be used
    ├── UnsupportedImage    not one of the accepted formats, or damaged
    └── TooManyPixels       more pixels than the limit

``EncoderError`` is the root of what the towers below raise, for callers that know the model package alone.
"""

from encoders.errors import EncoderError as EncoderError


class ModelError(Exception):
    """Base of every error that the model package raises on purpose."""


class ArtifactError(ModelError):
    """An artifact is missing, incomplete, altered, or lacks the requested code length."""


class ArchiveError(ModelError):
    """A data archive is missing, malformed or altered."""


class RecipeError(ModelError):
    """A recipe holds an unknown, missing or contradictory value."""


class TrainingDiverged(ModelError):
    """A term of the loss, or its gradient, is not finite; the message names step, term and items."""


class LicenceNotAccepted(ModelError):
    """The licence of a backbone's weights forbids commercial use, and nobody accepted it."""


class ModalityError(ModelError):
    """The method cannot encode this modality."""


class KeywordError(ModelError):
    """A keyword is no class of the model."""


class OracleError(ModelError):
    """The method has no encoder that takes labels."""


class CodeFileError(ModelError):
    """A file of codes made elsewhere is missing, malformed, contradictory or too large."""


class ImageError(ModelError):
    """An image cannot be used."""


class UnsupportedImage(ImageError):
    """The bytes are not an image in an accepted format, or are damaged."""


class TooManyPixels(ImageError):
    """The image has more pixels than the limit allows."""
