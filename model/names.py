"""Names that become folders: of data sets and artifacts, on every operating system and in every URL."""

import re

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def check_name(kind: str, name: str, error: type[Exception]) -> str:
    """Return the name if a ``kind`` can have it; one that could leave its folder cannot.

    Raises:
        error: it cannot.
    """
    if not NAME.fullmatch(name):
        raise error(
            f"expected a name of 1 to 64 characters a-z, 0-9, _ or -, starting with a letter or digit, for the {kind}, "
            f"found {name!r:.80}"
        )
    return name
