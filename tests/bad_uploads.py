"""Requests that no service should be hurt by: hundreds, each made by hand or of a short rule, and each to be refused."""

import struct
import zlib
from collections.abc import Iterator

import httpx
import numpy as np
from PIL import Image
from services import HEIGHT, WIDTH, mask, picture, stored

IMAGE, MASK = stored(picture()), stored(mask())
KINDS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
NAMES = (
    *("../../../../etc/passwd", "/etc/passwd", "..\\..\\windows\\win.ini", "C:\\evil.png", "file:///etc/passwd"),
    *("http://127.0.0.1:9/a.png", "a\0b.png", "~/.bashrc", "$(touch evil)", "`touch evil`", "; touch evil", "| touch evil"),
    *("%2e%2e%2fevil", "....//evil", "/dev/zero", "/proc/self/environ", "\\\\host\\share\\evil", "a" * 5000, "\u202egnp.live"),
    *("evil\r\nX-Evil: yes", '"quoted".png', "", ".", "..", "*"),
)
SIGNATURES = (
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x40\0\0\0WEBPVP8 ", b"RIFF\x40\0\0\0WEBPVP8L", b"II*\0", b"MM\0*"),
    *(b"II+\0", b"MM\0+", b"BM", b"GIF89a", b"\0\0\0\x20ftypavif", b"\0\0\0\x20ftypheic"),
)
NO_PICTURES = {
    "nothing": b"",
    "a byte": b"\0",
    "text": b"hello",
    "page": b"<!doctype html><script>alert(1)</script>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "xml": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
    "pdf": b"%PDF-1.7\n1 0 obj <<>> endobj",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(touch evil) run",
    "zip": b"PK\x03\x04" + bytes(60),
    "program": b"\x7fELF" + bytes(60),
    "pickle": b"\x80\x04\x95\x17\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.",
    "numpy": b"\x93NUMPY\x01\0" + bytes(60),
    "weights": b"\x08\0\0\0\0\0\0\0{}      ",
    "icon": b"\0\0\1\0\1\0" + bytes(40),
    "photoshop": b"8BPS\0\1" + bytes(40),
    "zeros": bytes(10_000),
    "gzip": b"\x1f\x8b\x08" + bytes(40),
    "video": b"\0\0\0\x18ftypmp42" + bytes(40),
    "netpbm": b"P6 4 4 255\n" + bytes(48),
    "fits": b"SIMPLE  =                    T" + bytes(100),
}


def form(image: bytes | None, mask: bytes | None = MASK, name: str = "a.png", query: str = "") -> bytes:
    """A request as it goes over the line."""
    parts = [("image", image), ("mask", mask)]
    files = [(field, (name, data, "image/png")) for field, data in parts if data is not None]
    request = httpx.Request("POST", f"http://localhost/v1/inpaint{query}", files=files)
    body = request.read()
    head = f"POST /v1/inpaint{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += f"Content-Type: {request.headers['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def raw(head: str, body: bytes = b"") -> bytes:
    return head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    made = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    return SIGNATURES[0] + b"".join(made)


def bombs() -> Iterator[tuple[str, bytes]]:
    yield "png that is as large as it says", png(20_000, 20_000, 1, 0, bytes(2501 * 20_000))
    for width, height in ((50_000, 50_000), (2**31 - 1, 1), (1, 2**31 - 1), (2**31 - 1, 2**31 - 1), (0, 10), (30_000, 30_000)):
        yield f"png that says {width}x{height}", png(width, height, 8, 2, bytes(1000))
    for kind in ("GIF", "BMP", "TIFF", "WEBP", "JPEG"):
        yield f"large {kind}", stored(Image.new("1" if kind == "TIFF" else "L", (4000, 3000)), kind)
    gif = bytearray(stored(picture("L"), "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    yield "gif that says 65535x65535", bytes(gif)
    bmp = bytearray(stored(picture(), "BMP"))
    for width, height in ((2**31 - 1, 2**31 - 1), (-5, 5), (100_000, 100_000)):
        bmp[18:26] = struct.pack("<ii", width, height)
        yield f"bmp that says {width}x{height}", bytes(bmp)
    frames = [picture("RGB", seed) for seed in range(3)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        yield f"{kind} of three", stored(frames[0], kind, save_all=True, append_images=frames[1:])
    yield "tiff of numbers that are no integers", stored(Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32)), "TIFF")
    yield "tiff of 32 bits", stored(Image.fromarray(np.zeros((HEIGHT, WIDTH), np.int32)), "TIFF")
    tag = struct.pack("<HHII", 256, 4, 2**32 - 1, 8)
    yield "tiff with endless tags", b"II*\0\x08\0\0\0\xff\xff" + tag * 50
    yield "tiff whose directory is itself", b"II*\0\x08\0\0\0\0\0\x08\0\0\0"


def pictures() -> Iterator[tuple[str, bytes]]:
    for name, data in [*NO_PICTURES.items(), *bombs()]:
        yield f"{name} as the image", form(data)
        yield f"{name} as the mask", form(IMAGE, data)
    for kind in KINDS:
        whole = stored(picture(), kind)
        for part in range(12):
            data = whole[: len(whole) * part // 16]
            yield f"{part}/16 of a {kind} as the image", form(data)
            yield f"{part}/16 of a {kind} as the mask", form(IMAGE, data)
    for signature in SIGNATURES:
        for seed in range(6):
            data = signature + np.random.default_rng(seed).bytes(300)
            yield f"noise {seed} after {signature!r}", form(data) if seed % 2 else form(IMAGE, data)
    for i in range(60):
        width, height = 1 + 17 * i, 1 + 7 * (i % 13)
        yield f"a mask of {width}x{height}", form(IMAGE, stored(Image.new("L", (width, height), 255)))
    for name in NAMES:
        yield f"nothing named {name[:30]!r}", form(b"nothing", name=name)
        yield f"no image beside a mask named {name[:30]!r}", form(None, MASK, name=name)


def options() -> Iterator[tuple[str, bytes]]:
    numbers = ["-1", "1e9", "257", "x", "1.5", "nan", "inf", "0x10", "%00", "1,2", "[]", "null", "", "9" * 400]
    for name in ("grow", "feather"):
        yield from ((f"{name}={value[:20]}", form(IMAGE, query=f"?{name}={value}")) for value in numbers)
    for value in (*numbers[:8], "0", "1", "2"):
        yield f"threshold={value[:20]}", form(IMAGE, query=f"?threshold={value}")
    for name in ("hole", "detail", "strategy", "passes", "format"):
        for value in ("", "x", "White", "../x", "%00", "9" * 400, "0", "3"):
            yield f"{name}={value[:20]}", form(IMAGE, query=f"?{name}={value}")
    for name in ("path", "url", "image", "mask", "weights", "device", "max_pixels", "__class__", "output", "callback"):
        yield f"{name}=/etc/passwd", form(IMAGE, query=f"?{name}=/etc/passwd")


def lines() -> Iterator[tuple[str, bytes]]:
    """What is wrong below the form."""
    post = "POST /v1/inpaint HTTP/1.1\nHost: localhost\nConnection: close"
    kind = f"{post}\nContent-Type: multipart/form-data; boundary=b"
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    for value in ("-1", "x", "1.5", "", "99999999999999999999", "5, 6", "+5", "0x5"):
        yield f"Content-Length {value!r}", raw(f"{kind}\nContent-Length: {value}")
    yield "two lengths", raw(f"{kind}\nContent-Length: 1\nContent-Length: 2", b"xx")
    yield "a length and chunks", raw(f"{kind}\nContent-Length: 5\nTransfer-Encoding: chunked", b"0\r\n\r\n")
    yield "chunks that are none", raw(f"{kind}\nTransfer-Encoding: chunked", b"zz\r\nxx\r\n")
    yield "a coding that is unknown", raw(f"{kind}\nTransfer-Encoding: gzip", b"xx")
    yield "a header of a megabyte", raw(f"{kind}\nX-Large: {'x' * 1_000_000}\nContent-Length: 1", b"x")
    yield "many headers", raw(kind + "".join(f"\nX-{i}: {'y' * 50}" for i in range(5000)) + "\nContent-Length: 1", b"x")
    yield "a path of a megabyte", raw(f"GET /{'x' * 1_000_000} HTTP/1.1\nHost: localhost")
    yield "no host", raw("POST /v1/inpaint HTTP/1.1\nContent-Length: 0")
    yield "a version that does not exist", raw("POST /v1/inpaint HTTP/7.0\nHost: localhost")
    yield "no HTTP", b"hello\r\n\r\n"
    yield "TLS", bytes.fromhex("1603010200010001fc0303") + bytes(80) + b"\r\n\r\n"
    yield "NUL in a header", raw(f"{kind}\nX-Nul: a\0b\nContent-Length: 1", b"x")
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
        yield f"{method} in place of POST", raw(f"{method} /v1/inpaint HTTP/1.1\nHost: localhost\nConnection: close")
    for path in (
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/%00",
        "//etc/passwd",
        "/v2/inpaint",
        "/static/..%2f..%2fapp.py",
    ):
        yield f"GET {path}", raw(f"GET {path} HTTP/1.1\nHost: localhost\nConnection: close")
    for content in (
        "text/plain",
        "application/json",
        "image/png",
        "multipart/form-data",
        "multipart/mixed; boundary=b",
        "",
        "\xff",
        "x" * 2000,
    ):
        yield f"Content-Type {content[:30]!r}", raw(f"{post}\nContent-Type: {content}\nContent-Length: 4", b"--b-")
    bodies = {
        "nothing": b"",
        "no boundary": b"x" * 1000,
        "an end alone": b"--b--\r\n",
        "no end": part + IMAGE,
        "no name": b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
        "no disposition": b"--b\r\n\r\nx\r\n--b--\r\n",
        "text in place of files": b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nx\r\n--b--\r\n',
        "ten thousand parts": (part + b"x\r\n") * 10_000 + b"--b--\r\n",
        "three images": (part + IMAGE + b"\r\n") * 3 + b"--b--\r\n",
        "a part's header of a megabyte": b"--b\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\nx\r\n--b--\r\n",
        "a part's many headers": b"--b\r\n" + b"X: y\r\n" * 50_000 + b"\r\nx\r\n--b--\r\n",
        "bytes that are no text": part.replace(b"image", b"\xff\xfe") + b"x\r\n--b--\r\n",
        "a charset that is none": b'--b\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\nzip\r\n--b--\r\n',
    }
    for name, body in bodies.items():
        yield f"a form of {name}", raw(f"{kind}\nContent-Length: {len(body)}", body)
    yield (
        "a boundary of 100 kB",
        raw(f"{post}\nContent-Type: multipart/form-data; boundary={'b' * 10_000}\nContent-Length: 1", b"x"),
    )
    yield "a body that is too large", raw(f"{kind}\nContent-Length: 4000000", part + bytes(4_000_000 - len(part)))
    yield "chunks that are too many", raw(f"{kind}\nTransfer-Encoding: chunked", (b"10000\r\n" + bytes(65536) + b"\r\n") * 60)


def slow() -> Iterator[tuple[str, bytes]]:
    """Beginnings, after which nothing comes."""
    whole = form(IMAGE)
    end = whole.index(b"\r\n\r\n") + 4
    for cut in (1, 10, end // 2, end - 2, end, end + 10, end + 200, end + 2000, len(whole) - 1):
        yield f"{cut} bytes of a request", whole[:cut]


def bad_uploads() -> list[tuple[str, bytes]]:
    return [*pictures(), *options(), *lines()]
