"""Video files: decoded frame by frame, and encoded anew with all else that the file holds, by PyAV (the extra ``video``).

A frame keeps the pixel format in which it was decoded. What the encoder gets is the very same wherever a frame's hole is not.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbam_fast.files import replacing
from lbam_fast.pictures.picture import PictureError

SUFFIXES = (".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm")
"""By which videos are known."""
QUALITY: dict[str, dict[str, str]] = {
    "libx264": {"crf": "16"},
    "libx264rgb": {"crf": "16"},
    "libx265": {"crf": "18", "x265-params": "log-level=error"},
    "libvpx-vp9": {"crf": "20", "b": "0"},
    "libsvtav1": {"crf": "20"},
    "mpeg4": {"flags": "+qscale", "global_quality": "236"},
    "mpeg2video": {"flags": "+qscale", "global_quality": "236"},
    "mjpeg": {"flags": "+qscale", "global_quality": "236"},
}
"""Options of encoders that lose little; 236 is a quantiser of 2."""
_EXACT = ("BICUBIC", "FULL_CHR_H_INT", "FULL_CHR_H_INP", "ACCURATE_RND")
"""How colours are converted, in swscale's words."""
_OF_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder")
"""Metadata that say how a file was written, not what is in it."""
_TAGS = ("color_range", "color_primaries", "color_trc", "colorspace")


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame, as it is stored.

    image   PyAV's, in the pixel format of the file
    pixels  [H, W, 3], its colours as RGB, uint8 or, of more than eight bits, uint16
    """

    image: Any
    pixels: NDArray[Any]


class Clip:
    """The first video stream of a file, to be read once.

    size    height and width of its frames as they are stored
    matrix  nine whole numbers that say how they are turned to be shown; None: as they are
    count   how many there are, as the file says; 0 if it does not
    rate    frames a second, on the average
    notes   sentences on what cannot be kept
    """

    def __init__(self, path: Path) -> None:
        """Raises PictureError for what is no video, and where PyAV is missing."""
        self.path = path
        self._file = opened(path)
        found = [each for each in self._file.streams.video if not each.disposition & each.disposition.attached_pic]
        if not found:
            self._file.close()
            raise PictureError(f"{path}: has no video stream; expected a video file, or a picture")
        self.stream = found[0]
        self.stream.thread_type = "AUTO"
        self._images = self._decoded()
        self._first = next(self._images, None)
        if self._first is None:
            self._file.close()
            raise PictureError(f"{path}: no frame of it can be decoded; is it cut short?")
        self.size = self._first.height, self._first.width
        self.matrix = _matrix(self._first)
        self.rate = Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)
        length = self._file.duration / 1e6 if self._file.duration else 0.0
        self.count = int(self.stream.frames or round(length * self.rate))
        others = len(found) - 1
        self.notes: tuple[str, ...] = (f"{others} further video streams are left out",) if others else ()
        if self.stream.metadata.pop("alpha_mode", None):  # of WebM, whose decoder here gives none
            self.notes += ("its transparency is left out",)
        if self._first.interlaced_frame:
            self.notes += ("it is interlaced, and is filled and written as if it were not",)

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def format(self) -> Any:
        """The frames' pixel format."""
        assert self._first is not None
        return _usable(self._first).format

    def frames(self) -> Iterator[Frame]:
        """All frames in the order in which they are shown. Raises PictureError."""
        step = 1 / self.rate / self.stream.time_base
        last: int | None = None
        for image in itertools.chain([self._first], self._images):
            if (image.height, image.width) != self.size:
                raise PictureError(
                    f"{self.path}: its frames change from {self.size[1]}x{self.size[0]} to {image.width}x{image.height}; "
                    "cut it there into two files"
                )
            if image.pts is None:
                image.pts, image.time_base = 0 if last is None else round(last + step), self.stream.time_base
            last = image.pts
            image = _usable(image)
            yield Frame(image, _converted(image, _rgb_of(image)).to_ndarray())

    def _decoded(self) -> Iterator[Any]:
        with explained(self.path, "cannot be decoded", "repair it, or fill its frames as a folder of pictures"):
            yield from self._file.decode(self.stream)


def has_video_suffix(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def with_filling(frame: Frame, pixels: NDArray[Any], filled: NDArray[np.bool_]) -> Any:
    """PyAV's frame with ``pixels`` [H, W, 3] where ``filled`` [H, W] is True; samples outside are those of ``frame``.

    Where several pixels share a sample of colour, as in 4:2:0, it changes if one of them is filled. Alpha does not change.
    """
    given, format = frame.image, frame.image.format
    filling = _converted(_av().VideoFrame.from_ndarray(pixels, format=_rgb_of(given)), format.name, given)
    for number, (plane, known) in enumerate(zip(filling.planes, given.planes, strict=True)):
        width = _sample_bytes(format, number)
        new, old = (_samples(each, width) for each in (plane, known))
        new[...] = np.where(_shared(filled, plane.height, plane.width)[..., None], new, old)
        alpha = [component.is_alpha for component in format.components if component.plane == number]
        if all(alpha):
            new[...] = old
        elif any(alpha):  # packed pixels have it first or last
            at = slice(0, 1) if format.name.startswith("a") else slice(-1, None)
            new[..., at] = old[..., at]
    return _marked(filling, given)


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded.

    codec    FFmpeg's name of an encoder, such as "libx264" or "ffv1"; None: one for what the clip was encoded with
    options  of that encoder, such as {"crf": "18"}; without any, such that little is lost
    """

    codec: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


class ClipWriter:
    """Writes the frames of a clip, and copies its audio and subtitles packet by packet, its chapters and its metadata.

    notes: sentences on what the file does not hold as the clip did.
    """

    def __init__(self, path: Path, like: Clip, encoding: Encoding) -> None:
        """Raises PictureError where there is no such encoder, or the container does not hold what it makes."""
        self._path = path
        self.notes: tuple[str, ...] = ()
        name = _encoder(like, encoding)
        self._source = opened(like.path)
        with self._explained():
            self._file = _av().open(str(path), "w")
        try:
            self._stream = self._file.add_stream(name, rate=like.rate)
            self._set_up(like, encoding.options or QUALITY.get(name, {}))
            self._copied = {each.index: copy for each in self._kept() if (copy := self._copy_of(each)) is not None}
        except BaseException as error:
            self.abandon()
            if isinstance(error, ValueError):
                raise PictureError(f"{path.suffix} files: {error}; choose another suffix, or another --codec") from error
            raise
        kept = [self._source.streams[index] for index in self._copied]
        self._packets = self._source.demux(kept) if kept else iter(())
        self._next: Any = next(self._packets, None)
        self._file.metadata.update({k: v for k, v in self._source.metadata.items() if k not in _OF_THE_FILE})
        if chapters := self._source.chapters():
            self._file.set_chapters(chapters)

    def write(self, image: Any) -> None:
        """Encode PyAV's frame, and write what goes before it. Raises PictureError."""
        if image.format.name != self._stream.pix_fmt:
            image = _marked(_converted(image, self._stream.pix_fmt, image), image)
        image.pict_type = 0
        with self._explained():
            self._mux(self._stream.encode(image))

    def close(self) -> None:
        """Write what is left, and the end of the file. Raises PictureError."""
        with self._explained():
            self._mux(self._stream.encode(None))
            self._copy_until(None)
            self._file.close()
        self._source.close()

    def abandon(self) -> None:
        """Close the file, whatever is in it."""
        self._source.close()
        with contextlib.suppress(_av().FFmpegError, OSError, ValueError):
            self._file.close()

    def _set_up(self, like: Clip, options: Mapping[str, str]) -> None:
        stream, context = self._stream, self._stream.codec_context
        stream.height, stream.width = like.size
        formats = context.codec.video_formats
        stream.pix_fmt = like.format.name
        if formats and like.format.name not in [each.name for each in formats]:
            from av.codec.codec import find_best_pix_fmt_of_list

            best, _ = find_best_pix_fmt_of_list([each.name for each in formats], like.format.name)
            stream.pix_fmt = (best or formats[0]).name
            exact = like.format.is_rgb and stream.pix_fmt in ("bgr0", "bgr24", "rgb24", "gbrp")
            self.notes += () if exact else (f"its pixel format {like.format.name} becomes {stream.pix_fmt}",)
        container = self._file.format
        steady = container is not None and container.name == "avi"  # which knows one rate and no times
        stream.time_base = context.time_base = 1 / like.rate if steady else like.stream.time_base
        context.flags |= _av().codec.context.Flags.frame_duration  # where the encoder knows it: of the last frame too
        if shape := like.stream.sample_aspect_ratio:
            context.sample_aspect_ratio = shape
        for tag in _TAGS:
            setattr(context, tag, getattr(like.stream.codec_context, tag))
        stream.options.update(options)
        if like.matrix is not None:
            stream.set_display_matrix(like.matrix)
        _name(stream, like.stream)

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return explained(self._path, "cannot be written", "try another --codec, its options, or another suffix")

    def _kept(self) -> list[Any]:
        """The streams that are copied."""
        return [*self._source.streams.audio, *self._source.streams.subtitles]

    def _copy_of(self, stream: Any) -> Any:
        try:
            copy = self._file.add_stream_from_template(stream)
        except ValueError as error:
            self.notes += (f"its {stream.type} is left out: {error}",)
            return None
        _name(copy, stream)
        return copy

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            self._copy_until(packet.dts * packet.time_base if packet.dts is not None else None)
            self._file.mux(packet)

    def _copy_until(self, time: Fraction | None) -> None:
        """Copy the packets up to that time in seconds, or all that are left."""
        while (packet := self._next) is not None:
            if packet.dts is not None:
                if time is not None and packet.dts * packet.time_base > time:
                    return
                packet.stream = self._copied[packet.stream_index]
                self._file.mux(packet)
            self._next = next(self._packets, None)


@contextlib.contextmanager
def writing(path: Path, like: Clip, encoding: Encoding) -> Iterator[ClipWriter]:
    """A writer whose file takes the place of ``path`` when the block ends well; else there is none. Raises PictureError."""
    try:
        with replacing(path) as temporary:
            writer = ClipWriter(temporary, like, encoding)
            try:
                yield writer
                writer.close()
            except BaseException:
                writer.abandon()
                raise
    except OSError as error:
        raise PictureError(f"{path}: cannot be written ({error.strerror or error}); check the folder and the disk") from error


@contextlib.contextmanager
def explained(path: Path, what: str, hint: str) -> Iterator[None]:
    """Turn FFmpeg's errors into PictureError."""
    av = _av()
    try:
        yield
    except av.FFmpegError as error:
        advice = "free some space" if error.errno == errno.ENOSPC else hint
        raise PictureError(f"{path}: {what} ({error.strerror}); {advice}") from error


def opened(path: Path) -> Any:
    """A file of PyAV's, to be read. Raises PictureError."""
    av = _av()
    if not path.is_file():
        raise PictureError(f"{path}: there is no such file; check the path")
    try:
        return av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise PictureError(f"{path}: is no video that can be read ({error.strerror})") from error


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise PictureError("video files need PyAV: pip install 'lbam-fast[video]', or give a folder of frames") from error
    return av


def _encoder(like: Clip, encoding: Encoding) -> str:
    """The name of the encoder. Raises PictureError where there is none."""
    av = _av()
    name = encoding.codec or like.stream.codec_context.codec.canonical_name
    if name == "h264" and like.format.is_rgb:
        return "libx264rgb"
    try:
        return str(av.Codec(name, "w").name)
    except (ValueError, av.FFmpegError) as error:
        raise PictureError(
            f"there is no encoder {name!r} in this FFmpeg; choose one with --codec, such as libx264, libx265, libvpx-vp9, ffv1"
        ) from error


def _name(stream: Any, like: Any) -> None:
    stream.metadata.update({k: v for k, v in like.metadata.items() if k not in ("encoder", "handler_name", "vendor_id")})
    stream.disposition = like.disposition


def _matrix(image: Any) -> tuple[int, ...] | None:
    found = image.side_data.get("DISPLAYMATRIX")
    return None if found is None else tuple(np.frombuffer(bytes(found), np.int32).tolist())


def _usable(image: Any) -> Any:
    """The frame in a format whose samples are whole bytes of their own."""
    format = image.format
    odd = format.has_palette or format.is_bit_stream or format.is_bayer or any(each.bits < 8 for each in format.components)
    return _marked(_converted(image, "rgb24", image), image) if odd else image


def _rgb_of(image: Any) -> str:
    deep = any(component.bits > 8 for component in image.format.components)
    return "rgb48le" if deep else "rgb24"


def _converted(image: Any, format: str, like: Any = None) -> Any:
    """In another pixel format; to YUV by the matrix and range of ``like``."""
    from av.video.reformatter import Interpolation

    exact = sum(Interpolation[name] for name in _EXACT)
    to = {} if like is None else {"dst_colorspace": int(like.colorspace), "dst_color_range": int(like.color_range)}
    return image.reformat(format=format, interpolation=exact, **to)


def _marked(image: Any, like: Any) -> Any:
    """The frame with the other's time and tags."""
    image.pts, image.time_base, image.duration = like.pts, like.time_base, like.duration
    for tag in _TAGS:
        setattr(image, tag, getattr(like, tag))
    return image


def _sample_bytes(format: Any, plane: int) -> int:
    components = [each for each in format.components if each.plane == plane]
    if len(components) == len(format.components) > 1:  # all in one
        return int(format.padded_bits_per_pixel) // 8
    return sum(-(-each.bits // 8) for each in components)


def _samples(plane: Any, width: int) -> NDArray[np.uint8]:
    """The bytes of a plane, [h, w, bytes of a sample]; a view."""
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
    return rows[:, : plane.width * width].reshape(plane.height, plane.width, width)


def _shared(filled: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Whether any of a sample's pixels is filled, for a plane of that size."""
    rows, columns = (-(-whole // part) for whole, part in zip(filled.shape, (height, width), strict=True))
    some = np.logical_or.reduceat(filled, np.arange(0, filled.shape[0], rows), axis=0)
    found: NDArray[np.bool_] = np.logical_or.reduceat(some, np.arange(0, filled.shape[1], columns), axis=1)
    return found
