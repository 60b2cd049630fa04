"""PNG files as decoders need them: without chunks that have no part in the pixels, which may be damaged or huge."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT = {b"tEXt", b"zTXt", b"iTXt"}
_ANIMATION = {b"acTL", b"fcTL", b"fdAT"}
_MOST_PROFILE = 1 << 26


@dataclass(frozen=True)
class Chunk:
    """One chunk."""

    name: bytes
    content: bytes
    checksum: int

    @property
    def whole(self) -> bool:
        """Whether its checksum holds."""
        return zlib.crc32(self.content, zlib.crc32(self.name)) == self.checksum

    @property
    def ancillary(self) -> bool:
        return self.name[:1].islower()

    @property
    def keyword(self) -> bytes:
        """What a text chunk is about, or what a profile is called."""
        return self.content.partition(b"\0")[0]


def chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks of a PNG file, as far as it is whole."""
    position = len(SIGNATURE)
    while position + 12 <= len(data):
        size, name = struct.unpack_from(">I4s", data, position)
        end = position + 8 + size
        if end + 4 > len(data):
            return
        yield Chunk(name, data[position + 8 : end], int.from_bytes(data[end : end + 4], "big"))
        position = end + 4


def essential(data: bytes) -> bytes:
    """The file with the chunks alone that decide its pixels, resolution and EXIF block; what is cut off stays cut off."""
    animated = any(chunk.name == b"acTL" and _frames(chunk) > 1 for chunk in chunks(data))
    kept, position = [data[: len(SIGNATURE)]], len(SIGNATURE)
    for chunk in chunks(data):
        end = position + 12 + len(chunk.content)
        if not chunk.ancillary or _needed(chunk, animated):
            kept.append(data[position:end])
        position = end
    return b"".join(kept) + data[position:]


def profile(data: bytes) -> tuple[bytes | None, str | None]:
    """The colour profile, and a note where it is damaged."""
    chunk = next((chunk for chunk in chunks(data) if chunk.name == b"iCCP"), None)
    if chunk is None:
        return None, None
    _, _, compressed = chunk.content.partition(b"\0")
    unpacking = zlib.decompressobj()
    try:
        unpacked = unpacking.decompress(compressed[1:], _MOST_PROFILE)
    except zlib.error:
        unpacked = b""
    if chunk.whole and compressed[:1] == b"\0" and unpacking.eof:
        return unpacked, None
    return None, "The colour profile is damaged and is not kept."


def is_text(chunk: Chunk) -> bool:
    return chunk.name in _TEXT


def _frames(animation: Chunk) -> int:
    return int.from_bytes(animation.content[:4], "big") if animation.whole and len(animation.content) == 8 else 1


def _needed(chunk: Chunk, animated: bool) -> bool:
    if chunk.name in _ANIMATION:
        return animated
    if chunk.name == b"pHYs":
        return chunk.whole and len(chunk.content) == 9
    if is_text(chunk):
        return chunk.whole and chunk.keyword.startswith(b"Raw profile type exif")
    return chunk.name == b"tRNS" or (chunk.name == b"eXIf" and chunk.whole)
