"""The checkpoint file of a pretrained tag: from the hub's cache on this disk, else from the hub.

A machine without a network is told so in seconds: whether the hub can be reached is asked once, before its client,
which would retry for a minute.
"""

from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from huggingface_hub import constants, hf_hub_download, hf_hub_url, try_to_load_from_cache

from encoders.errors import BackboneNotFound

FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
PROBE_S = 5.0  # longest wait for the hub's first answer


def cache_folder() -> Path:
    """Where fetched checkpoints lie; ``HF_HOME`` moves it."""
    return Path(constants.HF_HUB_CACHE)


def fetch(location: str) -> Path:
    """The checkpoint at ``owner/repository/`` or ``owner/repository/file``, safetensors where there are both.

    Raises:
        BackboneNotFound: neither in the cache nor to be had from the hub; the message says why.
    """
    repository, _, file = location.rpartition("/")
    files = (f"{file.rpartition('.')[0]}.safetensors", file) if file else FILES
    for name in files:
        if isinstance(found := try_to_load_from_cache(repository, name), str):
            return Path(found)
    if constants.HF_HUB_OFFLINE:
        raise BackboneNotFound("HF_HUB_OFFLINE forbids to fetch it")
    try:
        for name in files:
            if _is_there(hf_hub_url(repository, name, endpoint=constants.ENDPOINT)):
                return Path(hf_hub_download(repository, name, endpoint=constants.ENDPOINT))
    except OSError as error:
        raise BackboneNotFound(f"the hub did not give it: {error}") from error
    raise BackboneNotFound(f"the hub's {repository} has no {' and no '.join(files)}")


def _is_there(url: str) -> bool:
    try:
        with urlopen(Request(url, method="HEAD"), timeout=PROBE_S):  # noqa: S310 - the hub's address, set by the operator
            return True
    except HTTPError as error:
        if error.code == 404:
            return False
        raise
