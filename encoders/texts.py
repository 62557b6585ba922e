"""Which texts can be encoded at all: one answer for every tower."""

import unicodedata

from encoders.errors import TextError

_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})  # control and format characters, separators


def is_visible(text: str) -> bool:
    """Whether the text has a character to see; white space, control and zero-width characters are none."""
    return not all(unicodedata.category(character) in _UNSEEN for character in text)


def check_text(text: str) -> str:
    """The text, if it is Unicode and has something to see; emoji and right-to-left texts do.

    Raises:
        TextError: nothing to see, or half of a surrogate pair.
    """
    if not is_visible(text):
        raise TextError("expected a text with at least one visible character, found an empty one; write something")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise TextError("expected Unicode, found half of a surrogate pair; decode the text again from its source")
    return text
