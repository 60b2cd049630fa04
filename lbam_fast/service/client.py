"""A client of the service."""

from __future__ import annotations

import io
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lbam_fast.files import replace_file
from lbam_fast.service.errors import ServiceError, naming_the_extra

if TYPE_CHECKING:
    import httpx
    from PIL import Image


@dataclass(frozen=True)
class Filled:
    """The answer: a picture file's bytes, its media type, sentences on what could not be kept, and how it was filled."""

    data: bytes
    media_type: str
    notes: tuple[str, ...]
    strategy: str

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all; the suffix has no say. Raises OSError."""
        replace_file(Path(path), self.data)

    def image(self) -> Image.Image:
        """The picture, decoded by Pillow."""
        from PIL import Image

        return Image.open(io.BytesIO(self.data))


class Client:
    """Sends pictures to a service.

    >>> with Client() as client:
    ...     client.inpaint("photo.jpg", "mask.png", grow=4, feather=3).save("filled.jpg")

    Calls from several threads are safe. Needs httpx: pip install 'lbam-fast[serve]'.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 300.0,
        patience: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """timeout: seconds for one answer. patience: seconds for which a full service, which says 503, is asked again.

        transport: of httpx, in place of the network. Raises ServiceError where httpx is missing.
        """
        with naming_the_extra():
            import httpx
        self._patience, self._errors = patience, httpx.HTTPError
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def inpaint(self, image: Any, mask: Any = None, **options: Any) -> Filled:
        """Fill the hole of one picture.

        image, mask  a path, the bytes of a file, an open binary file, or a PIL image (sent as a PNG); the mask's holes are white
                     unless hole="black"; without a mask what is transparent is the hole
        options      hole, threshold, grow, feather, detail, strategy, passes, format: see docs/service.md
        Raises ServiceError, with the answer's status, if it is refused, and OSError for files that cannot be read.
        """
        files = {"image": ("image", _bytes_of(image))}
        if mask is not None:
            files["mask"] = ("mask", _bytes_of(mask))
        until = time.monotonic() + self._patience
        while True:
            try:
                answer = self._http.post("/v1/inpaint", files=files, params=options)
            except self._errors as error:
                raise ServiceError(
                    f"no answer from {self._http.base_url} ({error}); is lbam-fast serve running there?"
                ) from error
            if answer.status_code == 200:
                notes = tuple(json.loads(answer.headers.get("LBAM-Notes", "[]")))
                return Filled(answer.content, answer.headers["Content-Type"], notes, answer.headers.get("LBAM-Strategy", ""))
            refusal = _refusal(answer)
            if refusal.retry_after is None or time.monotonic() + refusal.retry_after > until:
                raise refusal
            time.sleep(max(1, refusal.retry_after))


def _refusal(answer: httpx.Response) -> ServiceError:
    try:
        told = answer.json()
        detail, code = str(told["detail"]), str(told["code"])
    except (ValueError, KeyError, TypeError):
        detail, code = f"the answer is {answer.status_code} {answer.reason_phrase}", ""
    after = answer.headers.get("Retry-After", "")
    return ServiceError(detail, answer.status_code, code, int(after) if after.isascii() and after.isdigit() else None)


def _bytes_of(source: Any) -> bytes:
    if isinstance(source, str | os.PathLike):
        return Path(source).read_bytes()
    data = source.read() if hasattr(source, "read") else source
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    if not hasattr(data, "save"):
        raise ServiceError(
            f"a picture is given as {type(source).__name__}, expected a path, the bytes of a file, an open binary file, or "
            "a PIL image"
        )
    buffer = io.BytesIO()
    source.save(buffer, "PNG")
    return buffer.getvalue()
