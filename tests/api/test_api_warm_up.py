"""Models are warm before the service says that it is ready."""

import threading
from collections.abc import Sequence

from api_home import BITS, Home, Serve, wait_until
from PIL.Image import Image

from app.models import warm_up
from model.fake import FakeHasher, FusingFakeHasher
from model.hasher import EncodedBatch, Modality


class SlowStarter(FakeHasher):
    """Its first text takes until it is let go."""

    def __init__(self) -> None:
        super().__init__(BITS, seed="demo")
        self.go = threading.Event()
        self.seen: list[str] = []

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        assert self.go.wait(10)
        self.seen.append("text")
        return super().encode_texts(texts)

    def encode_images(self, images: Sequence[Image]) -> EncodedBatch:
        self.seen.append("image")
        return super().encode_images(images)


def test_a_service_is_not_ready_before_its_models_are_warm(serve: Serve) -> None:
    hasher = SlowStarter()
    client = serve(ready=False, load=lambda *_: hasher)
    assert client.get("/readyz").json()["code"] == "not_ready"
    hasher.go.set()
    wait_until(lambda: client.get("/readyz").status_code == 200)
    assert hasher.seen == ["text", "image"]


def test_a_model_is_warmed_up_once(home: Home, serve: Serve) -> None:
    hasher = SlowStarter()
    hasher.go.set()
    home.add_generation("other", "demo")
    serve(load=lambda *_: hasher)
    assert hasher.seen == ["text", "image"]


def test_every_modality_of_a_model_is_warmed_up() -> None:
    fused: list[tuple[int, int]] = []

    class Fusing(FusingFakeHasher):
        def encode_pairs(self, images: Sequence[Image], texts: Sequence[str]) -> EncodedBatch:
            fused.append((len(images), len(texts)))
            return super().encode_pairs(images, texts)

    warm_up(Fusing(BITS))
    assert fused == [(1, 1)]


def test_a_modality_that_a_model_lacks_is_left_alone() -> None:
    hasher = SlowStarter()
    hasher.modalities = frozenset({Modality.IMAGE})
    warm_up(hasher)
    assert hasher.seen == ["image"]


def test_a_model_that_cannot_encode_at_all_refuses_its_index(serve: Serve) -> None:
    class Broken(FakeHasher):
        def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
            raise RuntimeError("no kernel for this machine")

    client = serve(load=lambda *_: Broken(BITS, seed="demo"))
    (refused,) = client.get("/v1/indexes").json()["refused"]
    assert (refused["name"], refused["code"]) == ("colors", "internal")
