"""Errors of the index package.

SearchError
├── IndexNotFound            no index of that name, or none of its generations is active
│   └── InvalidIndexName     not a name that an index can have
├── GenerationNotFound       the index has no generation of that number
├── GenerationExists         a generation of that number is already written; generations never change
├── IndexCorrupt             a file is missing, cut short or altered; the message names it
├── IndexFormatUnsupported   written by a newer version
├── ModelMismatch            the codes come from another model than the index
├── ColumnNotFound           the index has no codes of that modality
├── ItemNotFound             the index has no item of that id
├── IndexLocked              another writer is at work on the index
├── IndexMoved               another generation was activated while one was being made
├── TooManyEdits             so many appends and deletes that they must be merged first
├── ItemsNotEncoded          appended items have no codes of the generation's model yet
├── EngineUnavailable        the server that holds the codes does not answer, or refuses
├── InvalidItem              an item cannot be written: repeated id, wrong code width, metadata that is not JSON
├── InvalidQuery             a code, k, radius, offset or limit that cannot be asked
├── InvalidFilter            unknown field, operator or type
├── InvalidCursor            not a cursor, or one of another query
└── CursorExpired            the cursor belongs to another generation, or to a state before the last edit
"""


class SearchError(Exception):
    """Base of every error that the index package raises on purpose."""


class IndexNotFound(SearchError):
    """There is no index of that name, or none of its generations is active."""


class InvalidIndexName(IndexNotFound):
    """An index name is 1 to 64 characters of a-z, 0-9, ``_`` and ``-``, starting with a letter or digit."""


class GenerationNotFound(SearchError):
    """The index has no generation of that number."""


class GenerationExists(SearchError):
    """A generation of that number is already written; generations never change."""


class IndexCorrupt(SearchError):
    """A file of the index is missing, cut short or altered; the message names it."""


class IndexFormatUnsupported(SearchError):
    """The file was written by a newer version than this one reads."""


class ModelMismatch(SearchError):
    """The codes of the query and those of the index were made by different models."""

    def __init__(self, index_fingerprint: str, model_fingerprint: str) -> None:
        super().__init__(
            f"expected codes of the model that built the index, fingerprint {index_fingerprint}; "
            f"found codes of {model_fingerprint}; load that model or rebuild the index with this one"
        )
        self.index_fingerprint = index_fingerprint
        self.model_fingerprint = model_fingerprint


class ColumnNotFound(SearchError):
    """The index holds no codes of that modality."""


class ItemNotFound(SearchError):
    """The index holds no item of that id."""


class IndexLocked(SearchError):
    """Another writer is at work on the index."""


class IndexMoved(SearchError):
    """Another generation was activated while one was being made from the old one."""


class TooManyEdits(SearchError):
    """So many appends and deletes wait to be merged that no more are taken."""


class ItemsNotEncoded(SearchError):
    """Appended items have no codes of the model that made the generation."""


class EngineUnavailable(SearchError):
    """The server that holds the codes does not answer in time, or refuses what it is asked."""


class InvalidItem(SearchError):
    """An item cannot be written: repeated id, wrong code width, or metadata that is not JSON."""


class InvalidQuery(SearchError):
    """A code, k, radius, offset or limit that cannot be asked."""


class InvalidFilter(SearchError):
    """A filter with an unknown field, operator or type."""


class InvalidCursor(SearchError):
    """The text is not a cursor, or belongs to another index or query."""


class CursorExpired(SearchError):
    """The cursor belongs to another generation or an earlier state of the index; start again at the first page."""
