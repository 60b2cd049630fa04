"""What the OpenAPI page says beside the types: texts, examples, answers."""

from __future__ import annotations

from typing import Any

SERVICE = """Fills the holes in photographs with Learnable Bidirectional Attention Maps.

In masks **white is the hole**, unless `hole=black`. Known pixels come back identical to the bit in lossless formats."""

_CURL = """curl -F image=@photo.jpg -F mask=@mask.png -o filled.jpg 'http://127.0.0.1:8000/v1/inpaint?grow=4&feather=3'
curl -F image=@sticker.png -o filled.png http://127.0.0.1:8000/v1/inpaint   # what is transparent is the hole"""

_PROBLEM = {
    "type": "object",
    "required": ["title", "status", "code", "detail"],
    "additionalProperties": False,
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "A short name of why, for programs."},
        "detail": {"type": "string", "description": "What was wrong, what was expected, what to do."},
    },
}
_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}


def _refusal(status: int, title: str, code: str, detail: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    example = {"title": title, "status": status, "code": code, "detail": detail}
    found: dict[str, Any] = {
        "description": title,
        "content": {"application/problem+json": {"schema": _PROBLEM, "example": example}},
    }
    return {**found, "headers": headers} if headers else found


HOST: dict[int | str, dict[str, Any]] = {
    400: _refusal(400, "Bad Request", "host", "the header Host is 'x.example', expected localhost"),
}
KEY: dict[int | str, dict[str, Any]] = {
    401: _refusal(401, "Unauthorized", "key", "expected the header Authorization: Bearer KEY with this service's key"),
    403: _refusal(403, "Forbidden", "cross_site", "pages of other sites may not call this service"),
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}

INPAINT: dict[str, Any] = {
    "summary": "Fill the hole of a picture",
    "description": "A picture and its mask of the same size, or a picture alone, whose transparent part then is the hole.\n\n"
    f"```sh\n{_CURL}\n```\n\nThe answer has the picture's format and size, with its EXIF block, colour profile and opacity.",
    "responses": {
        200: {
            "description": "The filled picture.",
            "content": dict.fromkeys(("image/png", "image/jpeg", "image/webp", "image/tiff", "image/bmp"), _BINARY),
            "headers": {
                "LBAM-Notes": {
                    "description": "Sentences on the picture, as a JSON array in ASCII.",
                    "schema": {"type": "string"},
                },
                "LBAM-Strategy": {"description": "How it was filled.", "schema": {"type": "string"}},
                "Server-Timing": {"description": "Milliseconds of each stage.", "schema": {"type": "string"}},
            },
        },
        400: _refusal(
            400, "Bad Request", "bad_body", "the body is not the multipart/form-data that is expected: Missing boundary"
        ),
        **KEY,
        408: _refusal(408, "Request Timeout", "upload_too_slow", "the upload took more than 60 seconds; send smaller pictures"),
        413: _refusal(
            413, "Content Too Large", "body_too_large", "the request has more than 67,108,864 bytes; send smaller pictures"
        ),
        415: _refusal(415, "Unsupported Media Type", "bad_body", "the body is text/plain, expected multipart/form-data"),
        422: _refusal(
            422,
            "Unprocessable Content",
            "bad_picture",
            "mask: the mask is 64x64 pixels (width x height), but the picture image is 96x64: expected the same size, with "
            "white = hole",
        ),
        503: _refusal(503, "Service Unavailable", "queue_full", "64 requests are waiting already; try again", _RETRY),
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["image"],
                        "additionalProperties": False,
                        "properties": {
                            "image": {
                                "type": "string",
                                "format": "binary",
                                "description": "PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF or HEIC, recognised by its content.",
                            },
                            "mask": {
                                "type": "string",
                                "format": "binary",
                                "description": "A picture of that size: white is the hole, unless hole=black. Without a mask, "
                                "what is transparent is.",
                            },
                        },
                    },
                    "encoding": {"image": {"contentType": "image/*"}, "mask": {"contentType": "image/*"}},
                }
            },
        },
        "x-codeSamples": [{"lang": "sh", "source": _CURL}],
    },
}
