"""Damaged image files against the decoding of uploads: each becomes an image or a refusal, and nothing else.

    python benchmarks/fuzz_images.py [--mutations 100000] [--seed 0]

Small files of every accepted format are damaged (bytes flipped, overwritten, cut out, doubled, swapped between files,
lengths and sizes in headers set to extremes) and decoded as uploads are, in the service's decoding processes. Prints
how many became what, and how many processes ended over it; ends with 1 if anything but an image or a refusal came.
"""

import argparse
import io
import random
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from PIL import Image, ImageDraw

from app.decoding import Decoders
from app.show import progress
from model.errors import ImageError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
EXTREMES = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\x00\x00\x00\x01")
PROCESSES = 2


def files() -> list[bytes]:
    """Small images in every format, in several modes."""
    found = []
    for mode in ("RGB", "L", "P", "RGBA"):
        image = Image.new("RGB", (37, 23), (200, 80, 40))
        ImageDraw.Draw(image).ellipse((3, 3, 30, 20), fill=(20, 90, 200))
        for name in FORMATS:
            if (name, mode) in (("JPEG", "P"), ("JPEG", "RGBA"), ("BMP", "RGBA")):
                continue
            buffer = io.BytesIO()
            image.convert(mode).save(buffer, name)
            found.append(buffer.getvalue())
    return found


def damaged(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """One to four kinds of damage, one after another."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed) + 1)
        match chance.randrange(6):
            case 0 if place < len(changed):
                changed[place] ^= 1 << chance.randrange(8)
            case 1:
                changed[place : place + 4] = chance.choice(EXTREMES)
            case 2:
                del changed[place : place + chance.randint(1, 64)]
            case 3:
                changed[place:place] = changed[place : place + chance.randint(1, 64)]
            case 4:
                other = chance.choice(others)
                start = chance.randrange(len(other))
                changed[place : place + 32] = other[start : start + 32]
            case _:
                changed[min(place, 64) :] = changed[min(place, 64) :][: chance.randint(0, 2000)]
    return bytes(changed)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    chance, whole = random.Random(asked.seed), files()  # noqa: S311 - no secret
    decoders = Decoders(PROCESSES, max_pixels=40_000_000, deadline_s=10.0)
    decoders.start()
    heard: Counter[str] = Counter()

    def decode(data: bytes) -> str:
        try:
            decoders.decode(data)
        except ImageError as error:
            return f"{type(error).__name__}{', a process ended' if 'its decoder failed' in str(error) else ''}"
        except Exception as error:
            return f"UNFORESEEN {type(error).__name__}: {error}"
        return "image"

    started = time.perf_counter()
    with progress("fuzzing", asked.mutations) as advance, ThreadPoolExecutor(PROCESSES) as pool:
        for start in range(0, asked.mutations, 1000):
            batch = [damaged(chance.choice(whole), whole, chance) for _ in range(min(1000, asked.mutations - start))]
            heard.update(pool.map(decode, batch))
            advance(len(batch))
    decoders.close()
    for what, count in heard.most_common():
        print(f"{count:>8,}  {what}")
    print(f"{asked.mutations:,} damaged files in {time.perf_counter() - started:.0f} s")
    sys.exit(any(what.startswith("UNFORESEEN") for what in heard))


if __name__ == "__main__":
    main()
