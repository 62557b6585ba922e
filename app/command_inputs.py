"""What the command line encodes: a text, an image file, or both, fused into one code."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from model.bulk import encode_values, is_visible
from model.errors import ModalityError
from model.hasher import EncodedBatch, Hasher, KeywordHasher, Modality
from model.images import decode_image

if TYPE_CHECKING:
    from model.bulk import Encodable


@dataclass(frozen=True, slots=True)
class Input:
    """A text, an image file, or both."""

    text: str | None = None
    image: Path | None = None

    @property
    def modality(self) -> Modality:
        """What its code is."""
        if self.image is None:
            return Modality.TEXT
        return Modality.IMAGE if self.text is None else Modality.PAIR

    def __str__(self) -> str:
        return " + ".join(str(part) for part in (self.image, self.text) if part is not None)

    def read(self) -> "Encodable":
        """What a hasher takes."""
        image = None if self.image is None else decode_image(self.image.read_bytes())
        if image is None:
            return self.text or ""
        return image if self.text is None else (image, self.text)


def inputs_of(texts: Sequence[str], images: Sequence[Path], *, pair: bool) -> list[Input]:
    """The inputs, in the order given; a folder of images stands for every file below it.

    Raises:
        typer.BadParameter: texts as well as images without ``pair``, or numbers of them that make no pairs.
    """
    if not pair:
        if bool(texts) == bool(images):
            raise typer.BadParameter(
                "expected either --text or --image, each as often as you like; --pair fuses images with texts"
            )
        return [Input(text=text) for text in texts] + [Input(image=path) for path in _files(images)]
    files = list(_files(images))
    if not files or len(texts) not in (1, len(files)):
        raise typer.BadParameter(
            f"--pair: expected images with a --text for each, or one for all of them, found {len(files):,} images and "
            f"{len(texts):,} texts"
        )
    some = texts if len(texts) == len(files) else [texts[0]] * len(files)
    return [Input(text, path) for text, path in zip(some, files, strict=True)]


def require(hasher: Hasher, modality: Modality, artifact: str) -> None:
    """Refuse what the model cannot encode.

    Raises:
        ModalityError: the message says what it can.
    """
    if modality not in hasher.modalities:
        known = ", ".join(sorted(hasher.modalities))
        raise ModalityError(
            f"expected a model that encodes {modality}, found {artifact!r}, which encodes {known}; use one of those, "
            f"or train a model by a method that encodes {modality}"
        )


def keyword_hasher(hasher: Hasher, artifact: str) -> KeywordHasher:
    """The hasher as one that takes keywords.

    Raises:
        ModalityError: it takes none.
    """
    if isinstance(hasher, KeywordHasher) and hasher.keywords:
        return hasher
    raise ModalityError(
        f"expected a model that takes keywords, found {artifact!r}; train one by soda, which keeps its label head, or "
        "search by --text"
    )


def encode_one(hasher: Hasher, one: Input) -> EncodedBatch:
    """The code of one input.

    Raises:
        typer.BadParameter: the text has no words, or the file cannot be read.
    """
    if one.text is not None and not is_visible(one.text):
        raise typer.BadParameter("expected a text with words in it, found an empty one", param_hint="--text")
    try:
        value = one.read()
    except OSError as error:
        raise typer.BadParameter(f"cannot read {one.image}: {error.strerror}", param_hint="--image") from error
    return encode_values(hasher, [value])


def json_object(text: str) -> dict[str, Any]:  # Any: JSON
    """The value of ``--filter``.

    Raises:
        typer.BadParameter: it is no JSON object.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"expected a JSON object, but {error}", param_hint="--filter") from error
    if not isinstance(value, dict):
        raise typer.BadParameter('expected a JSON object such as {"labels": "animal"}', param_hint="--filter")
    return value


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files themselves, and those below the folders in the order of their names."""
    for path in paths:
        yield from sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
