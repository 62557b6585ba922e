"""Everything an operator can set, in one place.

Every field is an environment variable: prefix ``CROSSBIT_``, nested fields joined by two underscores
(``CROSSBIT_LIMITS__BODY_BYTES=1000000``). ``CROSSBIT_HOME`` moves ``var/``.
"""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Endpoint = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]\S*$")]
Engine = Literal["auto", "kernel", "faiss", "numpy", "milvus"]
Origin = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.\[\]:-]+$")]


class Limits(BaseModel):
    """What one request may ask for; beyond each there is a problem code."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    head_s: float = Field(default=10.0, gt=0, le=3600)
    """Seconds that the head of a request may take to arrive; beyond it the connection is closed, after a 408."""

    body_bytes: int = Field(default=32 * 2**20, ge=1024, le=2**31)
    """Largest request body, in bytes, checked while it arrives; beyond it ``payload_too_large``."""

    body_s: float = Field(default=60.0, gt=0, le=3600)
    """Seconds that a request body may take to arrive; beyond it ``deadline_exceeded``."""

    image_pixels: int = Field(default=40_000_000, ge=1, le=1_000_000_000)
    """Largest image, width x height in pixels, read from its header; beyond it ``image_too_many_pixels``."""

    queries: int = Field(default=64, ge=1, le=4096)
    """Most texts, files or codes in one call; beyond it ``invalid_request``."""

    text_chars: int = Field(default=8192, ge=1, le=1_000_000)
    """Longest text, in characters; beyond it ``invalid_request``."""

    items: int = Field(default=64, ge=1, le=4096)
    """Most items appended in one call; beyond it ``invalid_request``."""

    id_chars: int = Field(default=256, ge=1, le=4096)
    """Longest id of an appended item, in characters; beyond it ``invalid_request``."""

    metadata_bytes: int = Field(default=16_384, ge=2, le=2**20)
    """Largest metadata of an appended item, in bytes of JSON; beyond it ``invalid_request``."""

    hits: int = Field(default=200, ge=1, le=10_000)
    """Most hits on one page (the upper bound of ``limit``); beyond it ``invalid_request``."""

    depth: int = Field(default=10_000, ge=1, le=1_000_000)
    """Most hits that one query gives over all its pages; a radius search with more says ``truncated``."""

    queue: int = Field(default=64, ge=0, le=100_000)
    """Calls that may wait for each stage (encoding, decoding and searching, or editing); beyond it ``overloaded``."""

    listeners: int = Field(default=32, ge=0, le=10_000)
    """Callers that may follow jobs as server-sent events at the same time; beyond it ``overloaded``."""

    decode_s: float = Field(default=10.0, gt=0, le=600)
    """Seconds that one image may take to decode; beyond it ``unsupported_image``, and its decoder is ended."""

    deadline_s: float = Field(default=30.0, gt=0, le=3600)
    """Seconds a query may take, waiting included; beyond it ``deadline_exceeded``."""


class Keys(BaseModel):
    """SHA-256 digests, 64 hex digits each, of the keys that callers show; `crossbit key` makes both.

    Without any key, whoever reaches the service may do everything, and `crossbit serve` binds to loopback only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: tuple[Digest, ...] = ()
    """Keys that may search, encode and read."""

    admin: tuple[Digest, ...] = ()
    """Keys that may also append, delete, rebuild, roll back and cancel."""


class Milvus(BaseModel):
    """The Milvus server of the indexes whose engine is ``milvus``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Endpoint = "http://127.0.0.1:19530"
    """Its address."""

    token: SecretStr | None = None
    """``USER:PASSWORD`` or an API key, where the server asks for one."""

    token_file: Path | None = None
    """File, such as a mounted secret, that holds the token."""

    prefix: str = Field(default="crossbit", pattern=r"^[A-Za-z][A-Za-z0-9_]{0,31}$")
    """Start of the names of all its collections; homes that share a server have one each."""

    index: Literal["BIN_FLAT", "BIN_IVF_FLAT"] = "BIN_FLAT"
    """``BIN_FLAT`` compares every code; ``BIN_IVF_FLAT`` those of ``probes`` of ``lists`` clusters."""

    lists: int = Field(default=1024, ge=1, le=65_536)
    """Clusters of ``BIN_IVF_FLAT``."""

    probes: int | None = Field(default=None, ge=1, le=65_536)
    """Clusters that a search looks into; unset: all, and the answers are exact. With fewer, hits may be missing."""

    timeout_s: float = Field(default=10.0, gt=0, le=600)
    """Longest wait for an answer, in seconds, further tries included; beyond it ``not_ready``."""

    ready_s: float = Field(default=3600.0, gt=0, le=86_400)
    """Longest wait, in seconds, for one step of taking over a generation: an insert, a flush, its index, loading."""


class Settings(BaseSettings):
    """Configuration of one service process, read once at start and never changed."""

    model_config = SettingsConfigDict(
        env_prefix="CROSSBIT_",
        env_nested_delimiter="__",
        env_ignore_empty=True,  # a compose file can pass a variable on, but not leave it out
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # somebody may have put a key where its digest belongs
    )

    home: Path = Path("var")
    """Directory of artifacts, indexes, runs, data sets and jobs."""

    demo: bool = False
    """Serve the model that ships with the package in place of the home's, and let a worker build the index `demo`."""

    host: str = "127.0.0.1"
    """Address that the service binds to."""

    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port that the service binds to; 0 takes a free one."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models run; ``auto`` takes CUDA when there is one."""

    accept_licences: tuple[str, ...] = ()
    """Licences without commercial use that you accept, such as ``CC-BY-NC-4.0``; models under others are refused."""

    cuda_memory_share: float = Field(default=1.0, gt=0, le=1)
    """Share of a GPU's memory that this process may take; what needs more is encoded in smaller forwards, or fails."""

    train_threads: int = Field(default=1, ge=1, le=1024)
    """Threads of one training on a CPU; the same seed ends elsewhere with another number, by what rounding does."""

    engine: Engine = "auto"
    """Hamming search engine; every engine gives the same answers. ``auto``: the compiled kernel, faiss without it."""

    engines: dict[str, Engine] = Field(default_factory=dict)
    """Engines of single indexes, by name; the others have ``engine``."""

    milvus: Milvus = Milvus()
    """The server behind the engine ``milvus``."""

    indexes: tuple[str, ...] | None = None
    """Names of the indexes to serve; unset: every index of the home."""

    default_index: str | None = None
    """Index of a request that names none; unset: the only one there is."""

    sources: dict[str, str] = Field(default_factory=dict)
    """What a rebuild may read: name in the request -> data set; unset: every data set, under its own name."""

    min_free_bytes: int = Field(default=2**30, ge=0)
    """Bytes that a rebuild must leave free on the disk, by an estimate; beyond it ``insufficient_storage``."""

    max_bad_share: float = Field(default=0.1, ge=0, le=1)
    """Share of a source's items that may be bad; a rebuild that finds more does not swap."""

    encode_processes: int = Field(default=1, ge=0, le=64)
    """Processes that hold the models and encode, one core each; a GPU needs no more than one. 0 encodes in threads of
    the service itself, which take turns with HTTP."""

    encode_batch: int = Field(default=64, ge=1, le=1024)
    """Most texts encoded together, and on a GPU most images; on a CPU, where company gains them nothing, one image."""

    encode_wait_s: float = Field(default=0.005, ge=0, le=1)
    """Longest wait of a call for company, in seconds, where the encoder was busy when it came; an idle one starts."""

    threads: int = Field(default=2, ge=1, le=64)
    """Threads of a command, or processes of a rebuild, that encode, one core each; no code depends on it."""

    search_threads: int = Field(default=4, ge=1, le=256)
    """Threads that search."""

    decode_processes: int = Field(default=2, ge=0, le=64)
    """Processes that decode uploaded images; 0 decodes in the service itself, where nothing ends one that hangs."""

    keep_generations: int = Field(default=2, ge=1, le=1000)
    """Newest generations of an index that a rebuild or a merge of edits leaves, beside the one that serves."""

    verify_on_open: bool = True
    """Check the checksums of every file of a generation before serving it; sizes and shapes are always checked."""

    refresh_s: float = Field(default=1.0, ge=0.01, le=3600)
    """Seconds between looks for what other processes built, appended, deleted or compacted."""

    drain_notice_s: float = Field(default=2.0, ge=0, le=600)
    """Seconds after SIGTERM in which ``/readyz`` answers 503 and queries are still taken, so that proxies look away."""

    drain_s: int = Field(default=30, ge=1, le=3600)
    """Longest wait, in seconds, for the requests that run after that; what is not answered by then is broken off."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log event that is written."""

    log_format: Literal["auto", "json", "console"] = "auto"
    """``auto`` writes lines for people on a terminal and JSON lines elsewhere."""

    otlp_endpoint: Endpoint | None = None
    """Where OpenTelemetry traces go by OTLP over HTTP, such as ``http://127.0.0.1:4318``; none are made unless set."""

    keys: Keys = Keys()
    """Who may use the service."""

    open_without_keys: bool = False
    """Bind to any address without keys: for a container whose port is published on the loopback of its host alone."""

    keys_file: Path | None = None
    """More keys, as a file such as a mounted secret: lines of ``query DIGEST`` or ``admin DIGEST``, # for comments."""

    cors_origins: tuple[Origin, ...] = ()
    """Origins, such as ``https://gallery.example.org``, whose pages may call the service; none unless set."""

    limits: Limits = Limits()
    """Bounds on requests."""

    worker: Literal["embedded", "none"] = "embedded"
    """Whether `crossbit serve` runs rebuilds itself, or leaves them to processes of `crossbit worker`."""

    worker_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Name of this worker, which no other one may have; unset: the first free one of ``HOST-1``, ``HOST-2``, …"""

    worker_metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Loopback port on which this `crossbit worker` tells Prometheus its figures; 0 takes a free one; unset: none."""

    worker_nice: int = Field(default=10, ge=0, le=19)
    """How far `crossbit worker` stands back for other processes; 0: not at all."""

    worker_timeout_s: float = Field(default=30.0, ge=0.1, le=3600)
    """Seconds without a sign of life after which other workers take over what a worker was doing."""

    jobs_url: SecretStr | None = None
    """Postgres database of the jobs, ``postgresql://USER:PASSWORD@HOST/NAME``; unset: an SQLite file in the home."""

    jobs_url_file: Path | None = None
    """File, such as a mounted secret, that holds this address."""

    @property
    def artifacts_dir(self) -> Path:
        """Models by name."""
        return Path(str(files("model") / "artifacts")) if self.demo else self.home / "artifacts"

    @property
    def indexes_dir(self) -> Path:
        """Indexes by name."""
        return self.home / "indexes"

    @property
    def data_dir(self) -> Path:
        """Data sets by name; those shipped with the package come on top."""
        return self.home / "data"

    @property
    def jobs_dir(self) -> Path:
        """State of running and finished jobs."""
        return self.home / "jobs"

    def rebuild_sources(self) -> dict[str, str]:
        """Source name -> data set name: what was set, or every data set that is there now."""
        from model.items import list_archives

        return dict(self.sources) or {name: name for name in list_archives(self.data_dir)}


class InvalidSettings(Exception):
    """The environment does not give valid settings; one problem a variable, none of which tells its value."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(f"the environment does not give valid settings: {'; '.join(problems)}")
        self.problems = problems


def load_settings() -> Settings:
    """The settings of the environment.

    Raises:
        InvalidSettings: some variables cannot be understood.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise InvalidSettings(tuple(f"{_variable(one['loc'])}: {one['msg']}" for one in error.errors())) from error
    except SettingsError as error:  # a list or table that is not JSON; pydantic names the field in its message alone
        raise InvalidSettings((f"{error}: expected JSON",)) from None


def _variable(location: tuple[int | str, ...]) -> str:
    return "CROSSBIT_" + "__".join(name.upper() for name in location if isinstance(name, str))
