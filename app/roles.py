"""Who may do what: the two roles, and which of them a request needs."""

from enum import StrEnum

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_PATHS = frozenset({"/", "/livez", "/readyz", "/openapi.json"})
OPEN_FOLDER = "/ui/"
PROBED = frozenset({"/livez", "/readyz", "/metrics"})  # asked all day: neither traced nor, unless asked for, logged
QUERIES = ("/v1/search/", "/v1/encode/")


class Role(StrEnum):
    """What the holder of a key may do; ``admin`` may do all that ``query`` may."""

    QUERY = "query"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        """Whether this role may do what needs the other."""
        return self is Role.ADMIN or needed is Role.QUERY


def needed_role(method: str, path: str) -> Role | None:
    """The role that a request needs, None for what is open; whatever is not known to only read needs ``admin``."""
    if method in SAFE_METHODS:
        return None if path in OPEN_PATHS or path.startswith(OPEN_FOLDER) else Role.QUERY
    return Role.QUERY if path.startswith(QUERIES) else Role.ADMIN
