"""From bytes that anybody may have sent to the RGB image that an encoder sees."""

import io
import warnings

from PIL import Image, ImageOps

from model.errors import TooManyPixels, UnsupportedImage

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 40_000_000


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the first frame upright, composited on white, in mode RGB.

    Only the formats in ``FORMATS`` are tried, whatever the file calls itself; the pixel count is read from the
    header and checked before any pixel is decoded.

    Raises:
        UnsupportedImage: the bytes are not in an accepted format, or end early.
        TooManyPixels: width x height is above ``max_pixels``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning)  # harmless oddities in EXIF and TIFF tags
            return _decode(data, max_pixels)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise TooManyPixels(f"expected at most {max_pixels:,} pixels; {error}") from error
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError) as error:
        accepted = ", ".join(FORMATS)
        raise UnsupportedImage(
            f"expected a whole image in one of {accepted}; found {len(data):,} bytes that do not decode as one "
            f"({type(error).__name__}); send the file in one of these formats"
        ) from error


def _decode(data: bytes, max_pixels: int) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise TooManyPixels(
                f"expected at most {max_pixels:,} pixels, found {width} x {height} = {width * height:,}; "
                "scale the image down"
            )
        image.load()
        return on_white(ImageOps.exif_transpose(image))


def on_white(image: Image.Image) -> Image.Image:
    """Flatten any transparency onto white and return mode RGB; 16-bit grey is scaled to 8 bits, not clipped."""
    if image.mode in ("I;16", "I;16B", "I;16L"):
        image = image.point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
