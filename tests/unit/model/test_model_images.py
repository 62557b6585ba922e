"""Images as anybody may send them: a defined result or a named error."""

import io
import struct
import zlib

import pytest
from PIL import Image

from model.errors import TooManyPixels, UnsupportedImage
from model.images import decode_image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_each_accepted_format_decodes_to_rgb(kind: str) -> None:
    image = decode_image(
        encoded(Image.new("RGB", (3, 2), "red"), kind, **({"lossless": True} if kind == "WEBP" else {}))
    )
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (3, 2), (255, 0, 0))


def test_transparency_becomes_white() -> None:
    assert decode_image(encoded(Image.new("RGBA", (1, 1), (9, 9, 9, 0)), "PNG")).getpixel((0, 0)) == (255, 255, 255)


def test_a_transparent_palette_becomes_white() -> None:
    image = Image.new("P", (1, 1), 0)
    image.putpalette([10, 20, 30])
    assert decode_image(encoded(image, "PNG", transparency=0)).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_grey_keeps_its_brightness() -> None:
    pixel = decode_image(encoded(Image.new("I;16", (1, 1), 0x8000), "PNG")).getpixel((0, 0))
    assert pixel == (128, 128, 128)


def test_cmyk_decodes() -> None:
    assert decode_image(encoded(Image.new("CMYK", (2, 2), (0, 0, 0, 0)), "JPEG")).getpixel((0, 0)) == (255, 255, 255)


def test_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    assert decode_image(encoded(Image.new("RGB", (4, 2)), "JPEG", exif=exif)).size == (2, 4)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("data", [b"", b"not an image", b"%PDF-1.4", encoded(Image.new("RGB", (64, 64)), "PNG")[:60]])
def test_what_is_not_a_whole_image_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedImage, match="expected a whole image in one of JPEG"):
        decode_image(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_a_file_that_ends_early_is_refused(kind: str) -> None:
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    data = encoded(noise, kind)
    with pytest.raises(UnsupportedImage, match="expected a whole image"):
        decode_image(data[: len(data) // 2])


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_the_first_frame_of_an_animated_picture_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **lossless)
    assert decode_image(data).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000)])
def test_the_thinnest_images_decode(size: tuple[int, int]) -> None:
    assert decode_image(encoded(Image.new("RGB", size, "red"), "PNG")).size == size


def test_sixteen_bits_a_channel_decode_to_eight() -> None:
    rows = b"".join(b"\0" + b"\x80\x00\x40\x00\xff\xff" * 2 for _ in range(2))

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert decode_image(data).getpixel((1, 1)) == (128, 64, 255)


def test_a_format_outside_the_list_is_refused() -> None:
    with pytest.raises(UnsupportedImage):
        decode_image(encoded(Image.new("RGB", (2, 2)), "PPM"))


def test_pixels_are_counted_before_they_are_decoded() -> None:
    data = encoded(Image.new("1", (5000, 5000)), "PNG")
    with pytest.raises(TooManyPixels, match="found 5000 x 5000 = 25,000,000"):
        decode_image(data, max_pixels=1_000_000)
