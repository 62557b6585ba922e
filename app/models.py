"""The models that the service holds: each loaded once, when it is first needed."""

import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from app.logs import Log
from app.problems import Problem
from app.settings import Settings
from index.errors import ModelMismatch
from model.errors import ArtifactError, LicenceNotAccepted
from model.hasher import Hasher, Modality
from model.licences import require_licence
from model.manifest import artifact_stamp, list_artifacts, read_manifest

log = Log(__name__)

WARM_UP_TEXT = "a picture"


class LoadHasher(Protocol):
    """Opens an artifact as a hasher of one code length."""

    def __call__(self, artifact_dir: Path, bits: int, device: str) -> Hasher:
        """The hasher; ``device`` is ``auto``, ``cpu`` or ``cuda``."""


class Models:
    """Hashers by (artifact, bits), each loaded and warmed up when it is first needed."""

    def __init__(self, settings: Settings, load_hasher: LoadHasher) -> None:
        self._settings = settings
        self._load_hasher = load_hasher
        self._lock = threading.Lock()
        self._hashers: Mapping[tuple[str, int], Hasher] = {}
        self._stamps: dict[tuple[str, int], tuple[int, ...]] = {}  # of the artifacts that they were loaded from

    def names(self) -> list[str]:
        """Every artifact there is."""
        return list_artifacts(self._settings.artifacts_dir)

    def method(self, name: str) -> str | None:
        """How an artifact was trained; None where it does not say."""
        try:
            return read_manifest(self._settings.artifacts_dir / name).method
        except ArtifactError:
            return None

    def loaded(self) -> Mapping[tuple[str, int], Hasher]:
        """The hashers in memory."""
        return MappingProxyType(self._hashers)

    def get(self, name: str, bits: int, *, fingerprint: str | None = None) -> Hasher:
        """The hasher, from memory or from disk; an artifact that was replaced on disk is loaded anew if asked for.

        Raises:
            Problem: ``model_not_found``, there is no such artifact, it is damaged, it lacks this code length, or nobody
                accepted the licence of its weights.
            ModelMismatch: the artifact on disk has another fingerprint than the one asked for.
        """
        found = self._in_memory(name, bits, fingerprint)  # without the lock: no query waits while another one loads
        if found is not None:
            return found
        with self._lock:
            found = self._in_memory(name, bits, fingerprint)  # another thread may just have loaded it
            if found is not None:
                return found
            self._require(name)  # before anything looks at a file of this name
            stamp = artifact_stamp(self._folder(name))
            hasher = self._load(name, bits)
            if fingerprint not in (None, hasher.fingerprint):
                raise ModelMismatch(fingerprint, hasher.fingerprint)
            self._hashers = {**self._hashers, (name, bits): hasher}
            self._stamps[name, bits] = stamp
            return hasher

    def forget(self, *, used: Collection[Hasher]) -> None:
        """Let go of hashers whose artifact was replaced or deleted, so that the next call loads it as it is now.

        Those in ``used`` stay: an index that serves keeps the model that made it.
        """
        with self._lock:
            self._hashers = {
                key: hasher
                for key, hasher in self._hashers.items()
                if any(hasher is one for one in used) or self._stamps[key] == artifact_stamp(self._folder(key[0]))
            }

    def _in_memory(self, name: str, bits: int, fingerprint: str | None) -> Hasher | None:
        hasher = self._hashers.get((name, bits))
        return None if hasher is None or fingerprint not in (None, hasher.fingerprint) else hasher

    def _folder(self, name: str) -> Path:
        return self._settings.artifacts_dir / name

    def _require(self, name: str) -> None:
        if name not in self.names():
            known = ", ".join(self.names()) or "none"
            raise Problem("model_not_found", f"expected the name of a model, found {name!r}; known: {known}")

    def _load(self, name: str, bits: int) -> Hasher:
        started = time.perf_counter()
        folder = self._folder(name)
        try:
            manifest = read_manifest(folder)
            require_licence(manifest.backbone, self._settings.accept_licences)
            hasher = self._load_hasher(folder, bits, self._settings.device)
        except (ArtifactError, LicenceNotAccepted) as error:
            log.warning("model_refused", model=name, bits=bits, reason=str(error))
            detail = f"model {name!r} does not load at {bits} bits; the service's log has the reason"
            raise Problem("model_not_found", detail) from error
        loaded = time.perf_counter()
        warm_up(hasher)
        log.info(
            "model_loaded",
            model=name,
            bits=bits,
            device=hasher.device,
            fingerprint=hasher.fingerprint,
            licences=dict(manifest.licences),
            load_s=round(loaded - started, 3),
            warm_up_s=round(time.perf_counter() - loaded, 3),
        )
        return hasher


def warm_up(hasher: Hasher) -> None:
    """Encode one tiny input of each modality: models set up much of themselves late, and no query shall wait for it."""
    from PIL import Image

    image = Image.new("RGB", (8, 8), "white")
    if Modality.TEXT in hasher.modalities:
        hasher.encode_texts([WARM_UP_TEXT])
    if Modality.IMAGE in hasher.modalities:
        hasher.encode_images([image])
    if Modality.PAIR in hasher.modalities:
        hasher.encode_pairs([image], [WARM_UP_TEXT])


def require_modality(hasher: Hasher, modality: Modality, model: str) -> None:
    """Refuse what the model cannot encode.

    Raises:
        Problem: ``modality_not_supported``.
    """
    if modality not in hasher.modalities:
        known = ", ".join(sorted(hasher.modalities))
        detail = (
            f"expected a model that encodes {modality}, found {model!r}, which encodes {known}; ask with one of these, "
            f"or use a model that encodes {modality}: GET /v1/models tells what each of them does"
        )
        raise Problem("modality_not_supported", detail)
