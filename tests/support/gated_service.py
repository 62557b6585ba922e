"""`crossbit serve` on fake hashers that encode only while the file GATE is there: ``gated_service.py HOME GATE``."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from app import ending
from app.main import create_app
from app.models import WARM_UP_TEXT
from app.serving import serve
from app.settings import Settings
from model.fake import FakeHasher
from model.hasher import EncodedBatch


class GatedHasher(FakeHasher):
    """Encodes the text of the warm-up, and others once the gate is there."""

    gate = Path()

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        """Codes, in the end."""
        while list(texts) != [WARM_UP_TEXT] and not self.gate.exists():
            time.sleep(0.01)
        return super().encode_texts(texts)


def main(home: Path, gate: Path) -> None:
    """Serve as the settings of the environment say."""
    GatedHasher.gate = gate
    ending.END_S = float(os.environ.get("END_S", ending.END_S))
    settings = Settings(home=home, log_format="json")
    serve(
        lambda: create_app(settings, load_hasher=lambda path, bits, _: GatedHasher(bits, seed=path.name)),
        "127.0.0.1",
        0,
        has_keys=False,
        settings=settings,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
