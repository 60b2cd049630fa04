"""Videos as jobs of ``lbam-fast inpaint``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lbam_fast.cli.common import ArgumentError
from lbam_fast.errors import LBAMError

if TYPE_CHECKING:
    from lbam_fast.batch import Failed, Filler, Pairs, VideoJob
    from lbam_fast.batch.events import VideoEvent


def is_video(image: Path) -> bool:
    from lbam_fast.pictures.video import has_video_suffix

    return has_video_suffix(image) and not image.is_dir()


def paired_video(
    image: Path,
    mask: Path | None,
    output: Path,
    own: Mapping[str, object],
    others: Mapping[str, object],
) -> Pairs:
    """The job of a video. own: its options by their names; others: those of pictures alone. Raises ArgumentError."""
    from lbam_fast.batch import Pairs, VideoJob
    from lbam_fast.pictures.video import Encoding

    refuse(others, "pictures, not with a video")
    if mask is None:
        raise ArgumentError("no MASK was given: name a mask for all frames, or a folder or a video of masks, one for each")
    codec, codec_options = own["--codec"], own["--codec-options"]
    encoding = Encoding(str(codec) if codec else None, _options(str(codec_options)) if codec_options else {})
    target = output / image.name if output.is_dir() else output
    return Pairs([VideoJob(image, mask, target, encoding=encoding, temporal=bool(own["--temporal"]))])


def refuse(given: Mapping[str, object], kind: str) -> None:
    """Raise ArgumentError if any of these options was given, as they go with ``kind``."""
    for name in (name for name, value in given.items() if value):
        raise ArgumentError(f"{name} goes with {kind}")


def video_events(filler: Filler, jobs: Sequence[VideoJob], **_: object) -> Iterator[VideoEvent | Failed]:
    """What happens to the one video, told as ``Filler.fill`` tells of pictures; its error as an event."""
    from lbam_fast.batch import Failed, fill_video

    (job,) = jobs
    try:
        yield from fill_video(job, filler.inpainter)
    except LBAMError as error:
        yield Failed(job, error)


def _options(text: str) -> dict[str, str]:
    pairs = [each.partition("=") for each in text.split(",")]
    if not all(name and equals for name, equals, _ in pairs):
        raise ArgumentError(f"--codec-options is {text!r}, expected such as crf=18,preset=slow")
    return {name.strip(): value.strip() for name, _, value in pairs}
