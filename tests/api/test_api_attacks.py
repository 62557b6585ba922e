"""What somebody sends who wants the service to fail: each attempt gets its problem, at once, and others are served."""

import base64
import hmac
import io
import json
import struct
import zlib

import pytest
from api_home import BITS, Serve, png
from fastapi.testclient import TestClient
from httpx2 import Response
from PIL import Image, PngImagePlugin

from app.keys import KeyRing, digest_of
from app.problems import MEDIA_TYPE
from app.roles import Role

TEXT = "/v1/search/text"
IMAGE = "/v1/search/image"
REBUILD = "/v1/indexes/colors/rebuild"
HUGE = 60_000  # pixels a side


def assert_refused(answer: Response, *codes: str) -> None:
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json()["code"] in codes, answer.text


@pytest.fixture
def guarded(serve: Serve) -> TestClient:
    """A service as it is shipped: uploads are decoded in a process of their own."""
    return serve(decode_processes=1)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(size: tuple[int, int], pixels: bytes, *before: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    body = [chunk(b"IHDR", header), *before, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def gif_of(canvas: tuple[int, int], frame: tuple[int, int]) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x80, 0, 0) + bytes(6)
    return head + b"\x2c" + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x44\x01\x00\x3b"


def webp_of(size: tuple[int, int]) -> bytes:
    width, height = (side - 1 for side in size)
    extended = struct.pack("<I", 0) + struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3]
    lossless = b"\x2f" + struct.pack("<I", 16383 | 16383 << 14) + bytes(8)
    parts = b"WEBPVP8X" + struct.pack("<I", 10) + extended + b"VP8L" + struct.pack("<I", len(lossless)) + lossless
    return b"RIFF" + struct.pack("<I", len(parts)) + parts


def tiff_of(size: tuple[int, int], *, following: int = 0) -> bytes:
    """A header and one directory; ``following`` is where the next one is said to be."""
    tags = {256: size[0], 257: size[1], 258: 8, 259: 8, 262: 1, 273: 8, 277: 1, 278: size[1], 279: 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return (
        b"II*\0"
        + struct.pack("<I", 12)
        + bytes(4)
        + struct.pack("<H", len(tags))
        + entries
        + struct.pack("<I", following)
    )


def compressed_text(size: int) -> bytes:
    """A PNG chunk of little text that becomes much."""
    return chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(size), 9))


def many_frames() -> bytes:
    frames = [Image.new("L", (8, 8), shade) for shade in range(200)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def picture_in_a_picture() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add(b"prIv", png(size=(64, 64)) * 100)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


BOMBS = {
    "png, by its header": (png_of((HUGE, HUGE), b""), "image_too_many_pixels"),
    "png, of zeros": (png_of((HUGE, HUGE), zlib.compress(bytes(10**7), 9)), "image_too_many_pixels"),
    "png, one side": (png_of((2**31 - 1, 1), b""), "image_too_many_pixels unsupported_image"),
    "png, more data than pixels": (png_of((8, 8), zlib.compress(bytes(10**8), 9)), "unsupported_image "),
    "png, text that inflates": (png_of((8, 8), zlib.compress(bytes(200)), compressed_text(10**8)), "unsupported_image"),
    "gif, canvas": (gif_of((65535, 65535), (1, 1)), "image_too_many_pixels"),
    "gif, frame beyond its canvas": (gif_of((8, 8), (65535, 65535)), "image_too_many_pixels unsupported_image "),
    "webp": (webp_of((16383, 16383)), "image_too_many_pixels unsupported_image"),
    "tiff, called a png": (tiff_of((HUGE, HUGE)), "image_too_many_pixels"),
    "tiff, next directory is itself": (tiff_of((8, 8), following=12), "unsupported_image"),
    "gif, many frames": (many_frames(), ""),
    "png, with pngs inside": (picture_in_a_picture(), ""),
    "zip": (b"PK\x03\x04" + bytes(1000), "unsupported_image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", "unsupported_image"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n", "unsupported_image"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_defused(guarded: TestClient, name: str) -> None:
    data, codes = BOMBS[name]
    answer = guarded.post(IMAGE, files={"file": ("picture.png", data, "image/png")})
    if answer.status_code == 200:
        assert codes.endswith(" ") or not codes, f"expected one of {codes}"
    else:
        assert_refused(answer, *codes.split())
    assert guarded.post(IMAGE, files={"file": png()}).status_code == 200


@pytest.mark.parametrize("said", ["text/html", "image/jpeg", "application/x-php", "nonsense", ""])
def test_what_a_file_is_called_decides_nothing(client: TestClient, said: str) -> None:
    plain = client.post("/v1/encode/image", files={"file": png()}).json()["codes"]
    named = client.post("/v1/encode/image", files={"file": ("../../etc/passwd\0.php", png(), said)})
    assert named.json()["codes"] == plain


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (json.dumps({"query": "a"}).encode(), "multipart/form-data; boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\na\r\n--b--\r\n', "application/json"),
        (b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\na\r\n', "multipart/form-data; boundary=b"),
        (b"--b\r\n" * 10_000, "multipart/form-data; boundary=b"),
        (b"--b\r\n" + b"X: y\r\n" * 10_000 + b"\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        (b"--b", "multipart/form-data; boundary=" + "b" * 10_000),
        ('{"query": "é"}'.encode("latin-1"), "application/json; charset=latin-1"),
    ],
)
@pytest.mark.parametrize("path", [TEXT, IMAGE, "/v1/search/pair"])
def test_a_body_of_another_type_than_it_says(client: TestClient, path: str, content: bytes, content_type: str) -> None:
    answer = client.post(path, content=content, headers={"content-type": content_type})
    assert_refused(answer, "invalid_request", "empty_input", "modality_not_supported")


def nested(depth: int) -> bytes:
    return b'{"query": "a", "filter": ' + b'{"number": ' * depth + b"1" + b"}" * depth + b"}"


@pytest.mark.parametrize(
    "content",
    [
        nested(100),
        nested(100_000),
        b'{"query": "a", "filter": {"labels": {"in": ' + b"[" * 50_000 + b"]" * 50_000 + b"}}}",
        b'{"query": "a", "limit": ' + b"9" * 100_000 + b"}",
        b'{"query": "a", "limit": 1e400}',
        b'{"query": "a", "radius": -0.0}',
        b'{"query": "a", "cursor": "' + base64.urlsafe_b64encode(b"[" * 100_000) + b'"}',
        b'{"query": "a", "cursor": "' + base64.urlsafe_b64encode(b'{"offset": 1e99}') + b'"}',
        b'{"query": "a", "filter": {' + b",".join(b'"f%d": 1' % number for number in range(20_000)) + b"}}",
    ],
)
def test_json_that_is_deep_or_wide_or_not_a_number(client: TestClient, content: bytes) -> None:
    assert_refused(client.post(TEXT, content=content, headers={"content-type": "application/json"}), "invalid_request")


@pytest.mark.parametrize("depth", [100, 100_000])
def test_a_deep_filter_in_a_form(serve: Serve, depth: int) -> None:
    client = serve(limits={"text_chars": 1_000_000})
    deep = '{"number": ' * depth + "1" + "}" * depth
    assert_refused(client.post(IMAGE, files={"file": png()}, data={"filter": deep}), "invalid_request")


def test_of_a_name_that_comes_twice_in_json_the_last_one_counts(client: TestClient) -> None:
    answer = client.post(
        "/v1/encode/text", content=b'{"query": 7, "query": "a"}', headers={"content-type": "application/json"}
    )
    assert answer.json()["codes"] == client.post("/v1/encode/text", json={"query": "a"}).json()["codes"]


@pytest.mark.parametrize("name", ["index", "limit", "target", "filter", "cursor", "radius", "explain"])
def test_a_form_field_that_comes_twice(client: TestClient, name: str) -> None:
    answer = client.post(IMAGE, files={"file": png()}, data={name: ["1", "1"]})
    assert_refused(answer, "invalid_request")
    assert name in answer.json()["detail"]


def test_a_file_and_a_text_of_one_name(client: TestClient) -> None:
    answer = client.post(IMAGE, files=[("file", png()), ("file", (None, "not a file"))])
    assert_refused(answer, "invalid_request")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/indexes/colors%00/items/red",
        "/v1/indexes/..%2f..%2fartifacts/items/red",
        "/v1/indexes/%2e%2e",
        "/v1/indexes/colors/items/%2e%2e%2f%2e%2e%2fitems.sqlite",
        "/v1/indexes/colors/items/..%5c..%5citems.sqlite/image",
        "/v1/indexes/colors/items/' OR 1=1 --",
        "/v1/indexes/colors/items/%ff%fe",
        "/v1/indexes/colors/items/" + "a" * 5000,
        "/v1/jobs/..%2f..%2fjobs",
        "/v1/jobs/%00",
        "/ui/..%2f..%2fsettings.py",
        "/ui/....//settings.py",
        "/ui/%5c..%5csettings.py",
        "/ui/main.js%00.html",
        "//etc/passwd",
    ],
)
def test_no_name_in_an_address_is_a_path(client: TestClient, path: str) -> None:
    codes = ("index_not_found", "item_not_found", "job_not_found", "route_not_found")
    assert_refused(client.get(path), *codes)


NAMES = ["../colors", "/etc/passwd", "colors/../../etc", "C:\\colors", "file:///etc", "http://127.0.0.1/", "a\0b", "."]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", ["source", "model"])
def test_no_name_in_a_rebuild_is_a_path(client: TestClient, field: str, name: str) -> None:
    assert_refused(client.post(REBUILD, json={field: name}), "invalid_request", "model_not_found")


@pytest.mark.parametrize("name", NAMES)
def test_no_name_of_a_model_or_an_index_is_a_path(client: TestClient, name: str) -> None:
    assert_refused(client.post("/v1/encode/text", json={"query": "a", "model": name}), "model_not_found")
    assert_refused(client.post(TEXT, json={"query": "a", "index": name}), "index_not_found")


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/a.png", "file:///etc/passwd", "data:image/png;base64,AAAA"])
def test_no_address_is_fetched(client: TestClient, address: str) -> None:
    assert_refused(client.post(IMAGE, json={"image_base64": address}), "invalid_request")


@pytest.mark.parametrize("text", ["\0", "\0\0 ", "\x07\x1b", "\u200b\ufeff"])
def test_a_text_of_control_characters_alone_is_empty(client: TestClient, text: str) -> None:
    assert_refused(client.post(TEXT, json={"query": text}), "empty_input")


def test_control_characters_inside_stay_in_the_query(client: TestClient) -> None:
    assert client.post(TEXT, json={"query": "a\0b"}).status_code == 200
    item = client.post("/v1/search/item", json={"item_id": "red/00\0"})
    assert_refused(item, "item_not_found")
    field = client.post(TEXT, json={"query": "a", "filter": {"number\0": 1}})
    assert_refused(field, "invalid_request")
    value = client.post(TEXT, json={"query": "a", "filter": {"labels": "red\0"}})
    assert value.json()["hits"] == []


@pytest.mark.parametrize("shown", ["reader", "owner", "reades", "r", "x" * 10_000])
def test_guessing_a_key_takes_as_long_however_near_it_is(monkeypatch: pytest.MonkeyPatch, shown: str) -> None:
    """Every stored digest is compared, with one of equal length, in constant time."""
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def counted(one: str, other: str) -> bool:
        compared.append((len(one), len(other)))
        return real(one, other)

    keys = KeyRing(tuple((digest_of(key), role) for key, role in (("reader", Role.QUERY), ("owner", Role.ADMIN))))
    monkeypatch.setattr(hmac, "compare_digest", counted)
    keys.role_of(shown)
    assert compared == [(64, 64)] * 2


def test_codes_of_any_length_but_the_indexs(client: TestClient) -> None:
    for code in ("", "0", "00" * (BITS // 8 - 1), "00" * 512, "00" * 5000, "\u0660" * (BITS // 4)):
        assert_refused(client.post("/v1/search/code", json={"codes": [code]}), "invalid_request")
