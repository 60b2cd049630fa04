"""The body of a request: multipart, kept in memory, within the limits on bytes and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from lbam_fast.service.admission import too_large
from lbam_fast.service.errors import ServiceError
from lbam_fast.service.settings import Settings

FIELDS = ("image", "mask")


class _Parser(MultiPartParser):
    """Never writes to disk: the body's limit is that of memory too."""

    spool_max_size = 1 << 62

    def close(self) -> None:
        """Drop what was read, finished or not."""
        for file in self._files_to_close_on_error:
            file.close()


@dataclass(frozen=True)
class Upload:
    """The bytes of a picture, and of its mask if there is one."""

    image: bytes
    mask: bytes | None


def length_of(request: Request) -> int | None:
    """Of the body, as the header says. Raises ServiceError."""
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise ServiceError(f"Content-Length is {text!r}, expected a number of bytes", 400, "bad_request")
    return int(text)


async def read_upload(request: Request, settings: Settings) -> Upload:
    """Raises ServiceError; ClientDisconnect where nobody waits for the answer."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise ServiceError(
            f"the body is {kind[:80] or 'of no type'}, expected multipart/form-data with the file image, and mask unless what is "
            "transparent is the hole",
            415,
            "bad_body",
        )
    parser = _Parser(request.headers, _limited(request, settings.max_body), max_files=len(FIELDS), max_fields=0)
    try:
        async with asyncio.timeout(settings.upload_seconds):
            form = await parser.parse()
        return await _files(form)
    except TimeoutError as error:
        raise ServiceError(
            f"the upload took more than {settings.upload_seconds:g} seconds; send smaller pictures", 408, "upload_too_slow"
        ) from error
    except (MultiPartException, UnicodeError, ValueError, KeyError) as error:
        reason = getattr(error, "message", error)
        raise ServiceError(f"the body is not the multipart/form-data that is expected: {reason}", 400, "bad_body") from error
    finally:
        parser.close()


async def _files(form: FormData) -> Upload:
    files: dict[str, bytes] = {}
    for name, value in form.multi_items():
        if name not in FIELDS or name in files or not isinstance(value, UploadFile):
            raise ServiceError(f"the body holds {name[:80]!r}, expected a file image and at most one file mask", 422, "bad_body")
        files[name] = await value.read()
    if "image" not in files:
        raise ServiceError("the body holds no file image, expected one, such as curl -F image=@photo.jpg", 422, "bad_body")
    return Upload(files["image"], files.get("mask"))


async def _limited(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise too_large(most)
        yield chunk


__all__ = ["ClientDisconnect", "Upload", "length_of", "read_upload"]
