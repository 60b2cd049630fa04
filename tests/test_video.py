"""Videos from file to file: what is kept, to the bit where the codec loses nothing; masks, turned clips, errors, signals."""

import errno
import itertools
import json
import signal
import sys
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from forked import Program
from networks import network, one_thread  # noqa: F401 - applies itself
from PIL import Image
from typer.testing import CliRunner

from lbam_fast import Inpainter, InpaintError
from lbam_fast.batch import Advanced, Filled, JobError, Started, VideoJob, fill_video, stages
from lbam_fast.batch import video as batch_video
from lbam_fast.batch.temporal import Steadier, stillness
from lbam_fast.batch.video import turned_back, turned_upright
from lbam_fast.cli import app
from lbam_fast.inference import Hands, MaskOptions, OutOfMemoryError, find_hole
from lbam_fast.pictures import PictureError, video
from lbam_fast.pictures.video import Clip, Encoding, Frame, with_filling

av = pytest.importorskip("av")

HEIGHT, WIDTH = 96, 128
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[31:60, 41:77] = 255
RGB = ("rgb24", "bgr0", "rgba", "gbrp")
UNEVEN = [0, 40, 80, 160, 200, 360, 400, 440]
"""Times of frames in thousandths of a second."""


@pytest.fixture(scope="module")
def inpainter():
    return Inpainter(network(dtype=torch.float32), detail="off")


@pytest.fixture
def mask(tmp_path):
    return picture(tmp_path / "mask.png", MASK)


def picture(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def scene(number, height=HEIGHT, width=WIDTH):
    """Waves that move."""
    rows, columns = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(rows / (7 + i) + columns / (13 - i) + number / 3) for i in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def clip(path, codec, format, *, options=(), times=UNEVEN, tags=(1, 9, 16, 9), matrix=None, audio=None, scenes=None, rate=25):
    """A video file of waves. tags: range, primaries, transfer, matrix of its colours."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, format
        stream.options.update(dict(options))
        context = stream.codec_context
        tags = (tags[0], 1, 1, 0) if format in RGB else tags
        context.color_range, context.color_primaries, context.color_trc, context.colorspace = tags
        unit = Fraction(1, 25 if path.suffix == ".avi" else 1000)
        stream.time_base = context.time_base = unit
        if matrix:
            stream.set_display_matrix(matrix)
        sound = file.add_stream(audio, rate=48000, layout="mono") if audio else None
        file.metadata["title"] = "waves"
        for number, when in enumerate(times):
            frame = av.VideoFrame.from_ndarray(scene(number) if scenes is None else scenes[number], format="rgb24")
            frame = frame.reformat(format=format, dst_colorspace=tags[3] or None, dst_color_range=tags[0])
            frame.pts, frame.time_base = number if path.suffix == ".avi" else when, unit
            file.mux(stream.encode(frame))
            if sound:
                tone = np.sin(np.arange(1920 * number, 1920 * (number + 1)) / 20).astype(np.float32)[None] / 9
                piece = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                piece.sample_rate, piece.pts, piece.time_base = 48000, 1920 * number, Fraction(1, 48000)
                file.mux(sound.encode(piece))
        for each in filter(None, (stream, sound)):
            file.mux(each.encode(None))
    return path


def facts(path):
    """What has to stay, and the frames."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        frames = list(file.decode(stream))
        context = stream.codec_context
        found = {
            "container": file.format.name,
            "codec": context.codec.canonical_name,
            "format": stream.pix_fmt,
            "times": [frame.pts * frame.time_base for frame in frames],
            "rate": stream.average_rate,
            "tags": (context.color_range, context.color_primaries, context.color_trc, context.colorspace),
            "turned": frames[0].rotation,
            "title": file.metadata.get("title", file.metadata.get("TITLE")),
        }
    with av.open(str(path)) as file:
        sound = file.streams.audio
        found["audio"] = [bytes(each) for each in file.demux(sound) if each.size] if sound else None
    return found, frames


def differing(one, other, filled):
    """How many samples differ in each plane outside and inside the hole."""
    outside, inside = 0, 0
    for number, (a, b) in enumerate(zip(one.planes, other.planes, strict=True)):
        width = video._sample_bytes(one.format, number)
        changed = (video._samples(a, width) != video._samples(b, width)).any(axis=-1)
        hole = video._shared(filled, a.height, a.width)
        outside += int(changed[~hole].sum())
        inside += int(changed[hole].sum())
    return outside, inside


LOSSLESS = [
    ("ffv1", "yuv420p", ".mkv", ()),
    ("ffv1", "yuv422p10le", ".mkv", ()),
    ("ffv1", "bgr0", ".mkv", ()),
    ("ffv1", "yuva444p", ".mkv", ()),
    ("ffv1", "gray", ".mkv", ()),
    ("libx264rgb", "rgb24", ".mp4", (("qp", "0"),)),
    ("libx264", "yuv444p", ".mp4", (("qp", "0"),)),
    ("png", "rgba", ".mov", ()),
]


@pytest.mark.sampled
@pytest.mark.parametrize(("codec", "format", "suffix", "options"), LOSSLESS)
def test_lossless_videos_keep_known_samples_to_the_bit(tmp_path, inpainter, mask, codec, format, suffix, options):
    given = clip(tmp_path / f"in{suffix}", codec, format, options=options, audio="flac" if suffix == ".mkv" else None)
    output = tmp_path / f"out{suffix}"
    *_, end = fill_video(VideoJob(given, mask, output, encoding=Encoding(options=dict(options))), inpainter)
    assert isinstance(end, Filled)
    (before, frames), (after, results) = facts(given), facts(output)
    assert after == before and len(results) == len(UNEVEN)
    for frame, result in zip(frames, results, strict=True):
        outside, inside = differing(frame, result, MASK > 0)
        assert outside == 0 and inside > 0.5 * (MASK > 0).sum()


def test_a_known_sample_that_changes_is_caught():
    """Planted fault: a hole that is wider than it is said to be."""
    frame = av.VideoFrame.from_ndarray(scene(0), format="rgb24").reformat(format="yuv420p")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    wide = np.pad(MASK > 0, 2)[4:, 4:]
    changed = with_filling(Frame(frame, scene(0)), scene(9), wide)
    assert differing(frame, changed, MASK > 0)[0] > 0
    assert differing(frame, changed, wide)[0] == 0 < differing(frame, changed, wide)[1]


LOSSY = [
    ("libx264", "yuv420p", ".mp4", "aac"),
    ("libx265", "yuv420p10le", ".mkv", "aac"),
    ("libvpx-vp9", "yuv420p", ".webm", "libopus"),
    ("mpeg4", "yuv420p", ".avi", None),
    ("mjpeg", "yuvj420p", ".mov", "aac"),
]


@pytest.mark.sampled
@pytest.mark.parametrize(("codec", "format", "suffix", "audio"), LOSSY)
def test_lossy_videos_keep_all_but_the_last_bits(tmp_path, inpainter, mask, codec, format, suffix, audio):
    tags = (2, 1, 1, 5) if codec == "mjpeg" else (1, 9, 16, 9)
    given = clip(tmp_path / f"in{suffix}", codec, format, audio=audio, tags=tags, options=(("x265-params", "log-level=error"),))
    output = tmp_path / f"out{suffix}"
    events = list(fill_video(VideoJob(given, mask, output), inpainter))
    assert isinstance(events[0], Started) and events[0].size == (WIDTH, HEIGHT) and events[0].notes == ()
    assert [each.done for each in events if isinstance(each, Advanced)] == [len(UNEVEN)]
    (before, frames), (after, results) = facts(given), facts(output)
    assert after == before
    known = MASK == 0
    for frame, result in zip(frames, results, strict=True):
        one, other = (each.to_ndarray(format="rgb24").astype(int) for each in (frame, result))
        assert np.abs(one - other)[known].mean() < 3 < np.abs(one - other)[~known].mean()


@pytest.mark.parametrize("matrix", list(itertools.product((0, 1), (1, -1), (1, -1))))
def test_masks_lie_as_a_turned_video_is_shown(tmp_path, inpainter, matrix):
    transposed, one, other = (each << 16 for each in matrix)
    nine = (0, one, 0, other, 0, 0, 0, 0, 1 << 30) if transposed else (one, 0, 0, 0, other, 0, 0, 0, 1 << 30)
    shown = turned_upright(MASK, nine)
    assert shown.shape == ((WIDTH, HEIGHT) if transposed else (HEIGHT, WIDTH))
    assert np.array_equal(turned_back(shown, nine), MASK)
    given = clip(tmp_path / "in.mov", "png", "rgb24", times=[0], matrix=nine)
    output = tmp_path / "out.mov"
    list(fill_video(VideoJob(given, picture(tmp_path / "shown.png", shown), output), inpainter))
    (before, (frame,)), (after, (result,)) = facts(given), facts(output)
    assert after == before
    outside, inside = differing(frame, result, MASK > 0)
    assert outside == 0 and inside > 0.5 * (MASK > 0).sum()
    assert bytes(result.side_data.get("DISPLAYMATRIX") or b"") == bytes(frame.side_data.get("DISPLAYMATRIX") or b"")


def test_a_quarter_turn_is_what_players_make_of_it(tmp_path):
    """FFmpeg's rotation is the angle by which what is stored is turned against the clock."""
    clip(tmp_path / "in.mov", "png", "rgb24", times=[0], matrix=(0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30))
    with Clip(tmp_path / "in.mov") as turned:
        (frame,) = turned.frames()
        assert np.array_equal(turned_upright(frame.pixels, turned.matrix), np.rot90(frame.pixels, frame.image.rotation // 90))


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_one_mask_for_each_frame(tmp_path, inpainter, kind):
    masks = [np.roll(MASK, 4 * i, axis=1) for i in range(len(UNEVEN))]
    if kind == "folder":
        where = tmp_path / "masks"
        where.mkdir()
        for number, each in enumerate(masks):
            picture(where / f"{number:03}.png", each)
    else:
        where = clip(tmp_path / "masks.mkv", "ffv1", "yuv420p", scenes=[np.stack([each] * 3, axis=-1) for each in masks])
    given, output = clip(tmp_path / "in.mkv", "ffv1", "bgr0"), tmp_path / "out.mkv"
    list(fill_video(VideoJob(given, where, output), inpainter))
    for frame, result, each in zip(facts(given)[1], facts(output)[1], masks, strict=True):
        outside, inside = differing(frame, result, each > 0)
        assert outside == 0 and inside > 0.5 * (each > 0).sum()


def test_too_few_masks_leave_nothing_and_too_many_are_told_of(tmp_path, inpainter):
    given, output = clip(tmp_path / "in.mkv", "ffv1", "bgr0"), tmp_path / "out.mkv"
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(len(UNEVEN) - 1):
        picture(masks / f"{number}.png", MASK)
    with pytest.raises(JobError, match=r"has 7 masks, but .* more frames"):
        list(fill_video(VideoJob(given, masks, output), inpainter))
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", "masks"}
    for number in range(7, 10):
        picture(masks / f"{number}.png", MASK)
    *_, end = fill_video(VideoJob(given, masks, output), inpainter)
    assert end.notes[1] == f"2 masks of {masks} have no frame"


def test_frames_are_filled_as_pictures_are(tmp_path, inpainter, mask):
    given, output = clip(tmp_path / "in.mkv", "ffv1", "bgr0"), tmp_path / "out.mkv"
    list(fill_video(VideoJob(given, mask, output), inpainter))
    for number, result in enumerate(facts(output)[1]):
        single = inpainter(scene(number), MASK)
        assert np.abs(result.to_ndarray(format="rgb24").astype(int) - single).max() <= 1  # batches round otherwise


def test_leaving_the_loop_leaves_no_file(tmp_path, inpainter, mask):
    given = clip(tmp_path / "in.mkv", "ffv1", "bgr0", times=range(0, 2000, 40))
    for event in fill_video(VideoJob(given, mask, tmp_path / "out.mkv"), inpainter):
        if isinstance(event, Advanced):
            break
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", "mask.png"}


def test_a_full_disk_leaves_what_was_there(tmp_path, inpainter, mask, monkeypatch):
    given, output = clip(tmp_path / "in.mkv", "ffv1", "bgr0"), tmp_path / "out.mkv"
    output.write_bytes(b"before")

    def full(*_):
        raise av.error.OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(video.ClipWriter, "_mux", full)
    with pytest.raises(PictureError, match=r"No space left on device.*free some space"):
        list(fill_video(VideoJob(given, mask, output), inpainter))
    assert output.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 3


def test_what_cannot_be_done_is_said(tmp_path, inpainter, mask, monkeypatch):
    given = clip(tmp_path / "in.mkv", "ffv1", "bgr0", times=[0, 40])
    sound = tmp_path / "sound.mkv"
    with av.open(str(sound), "w") as file:
        stream = file.add_stream("flac", rate=48000, layout="mono")
        piece = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), format="s16", layout="mono")
        piece.sample_rate = 48000
        piece.pts, piece.time_base = 0, Fraction(1, 48000)
        file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    small = picture(tmp_path / "small.png", MASK[:50])

    def trying(image, mask=mask, output="out.mkv", **encoding):
        list(fill_video(VideoJob(image, mask, tmp_path / output, encoding=Encoding(**encoding)), inpainter))

    before = {path.name for path in tmp_path.iterdir()}
    for error, words, arguments in (
        (PictureError, "no video stream", {"image": sound}),
        (PictureError, "is no video that can be read", {"image": text}),
        (PictureError, "no such file", {"image": tmp_path / "nothing.mp4"}),
        (InpaintError, "the mask is 128x50 pixels .* is shown at 128x96", {"image": given, "mask": small}),
        (PictureError, "no encoder 'h26x'.*--codec", {"image": given, "codec": "h26x"}),
        (PictureError, "does not support.*another suffix", {"image": given, "output": "out.webm"}),
        (PictureError, "cannot be written", {"image": given, "codec": "libx264", "options": {"preset": "none such"}}),
        (JobError, "the result of a video is one", {"image": given, "output": "out.png"}),
        (JobError, "would be overwritten", {"image": given, "output": "in.mkv"}),
        (JobError, "no such mask", {"image": given, "mask": tmp_path / "none.png"}),
    ):
        with pytest.raises(error, match=words):
            trying(**arguments)
    assert {path.name for path in tmp_path.iterdir()} == before
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(PictureError, match=r"pip install 'lbam-fast\[video\]'"):
        trying(given)


def test_the_command_line(tmp_path, mask):
    given = clip(tmp_path / "in.mkv", "ffv1", "bgr0", times=range(0, 200, 40), audio="flac")
    output, report = tmp_path / "out.mkv", tmp_path / "report.json"

    def run(*arguments):
        return CliRunner().invoke(app, ["inpaint", *map(str, arguments)])

    result = run(given, mask, "-o", output, "--temporal", "--report", report, "--detail", "off")
    assert result.exit_code == 0 and "5 frames" in result.output and "a second" in result.output
    (entry,) = json.loads(report.read_text())["files"]
    assert entry["status"] == "filled" and (entry["width"], entry["height"]) == (WIDTH, HEIGHT)
    assert facts(output)[0] == facts(given)[0]
    result = run(given, mask, "-o", tmp_path / "x264.mp4", "--codec", "libx264", "--codec-options", "crf=30,preset=fast")
    assert result.exit_code == 0 and "pixel format bgr0 becomes" in result.output
    for words, arguments in (
        ("--recursive goes with pictures", (given, mask, "--recursive")),
        ("--temporal goes with a video", (mask, mask, "--temporal")),
        ("--codec-options is 'crf'", (given, mask, "--codec-options", "crf")),
        ("no MASK was given", (given,)),
    ):
        result = run(*arguments, "-o", tmp_path / "other.mkv")
        assert result.exit_code == 2 and words in result.output


@pytest.mark.sampled
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_no_half_file(tmp_path, mask, number):
    given = clip(tmp_path / "in.mkv", "ffv1", "bgr0", times=range(0, 40000, 40))
    with Program("inpaint", given, mask, "-o", tmp_path / "out.mkv", "--threads", 1) as process:
        while process.poll() is None and not list(tmp_path.glob(".*.mkv")):
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(number)
        said = "".join(process.communicate(timeout=60))
    assert process.returncode == 128 + number, said
    assert "nothing is written" in said
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", "mask.png"}


# Steady fillings


def flicker(frames, hole):
    """The mean change from frame to frame in the hole, in steps of 255."""
    return float(np.mean([np.abs(b[hole].astype(float) - a[hole]).mean() for a, b in itertools.pairwise(frames)]))


def steadied(given, fillings, holes):
    steadier = Steadier()
    return [
        steadier(frame, np.where(hole.filled[..., None], filling, frame).astype(np.uint8), hole)
        for frame, filling, hole in zip(given, fillings, holes, strict=True)
    ]


def noisy(count, still=True):
    rng = np.random.default_rng(0)
    return [
        np.clip(scene(0 if still else 3 * i) + rng.normal(0, 1.5, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
        for i in range(count)
    ]


HOLE = find_hole(MASK.astype(np.float32) / 255, MaskOptions())


def test_flicker_falls_where_nothing_moves_and_known_pixels_stay():
    given, fillings = noisy(12), [np.roll(scene(i % 3), i, axis=0) for i in range(12)]
    results = steadied(given, fillings, [HOLE] * 12)
    before = [np.where(HOLE.filled[..., None], filling, frame) for frame, filling in zip(given, fillings, strict=True)]
    assert flicker(results[3:], HOLE.filled) < 0.25 * flicker(before[3:], HOLE.filled)
    for frame, result in zip(given, results, strict=True):
        assert np.array_equal(frame[~HOLE.filled], result[~HOLE.filled])


def test_moving_pictures_and_cuts_are_left_alone():
    given, fillings = noisy(6, still=False), [scene(i) for i in range(6)]
    for filling, result in zip(fillings, steadied(given, fillings, [HOLE] * 6), strict=True):
        assert np.array_equal(result[HOLE.filled], filling[HOLE.filled])


def test_what_was_known_before_on_a_still_background_comes_back():
    moving = [find_hole(np.roll(MASK, 9 * i, axis=1).astype(np.float32) / 255, MaskOptions()) for i in range(6)]
    given, fillings = [scene(0)] * 6, [np.full((HEIGHT, WIDTH, 3), 255, np.uint8)] * 6
    results = steadied(given, fillings, moving)
    uncovered = moving[-1].filled & ~moving[0].filled
    assert uncovered.sum() > 500 and np.array_equal(results[-1][uncovered], scene(0)[uncovered])


def test_stillness_is_1_for_noise_0_for_motion_and_0_where_nothing_is_known():
    known = np.ones((80, 80), bool)
    assert (stillness(np.full((80, 80), 2 / 255, np.float32), known) == 1).all()
    assert (stillness(np.full((80, 80), 9 / 255, np.float32), known) == 0).all()
    assert (stillness(np.zeros((80, 80), np.float32), ~known) == 0).all()


# Ahead


def test_what_is_prefetched_comes_in_order_with_its_error_and_can_be_left():
    def items():
        yield from range(5)
        raise JobError("no more")

    found = stages.prefetched(items(), 2)
    assert [next(found) for _ in range(5)] == list(range(5))
    with pytest.raises(JobError, match="no more"):
        next(found)
    endless = stages.prefetched(itertools.count(), 2)
    assert next(endless) == 0
    endless.close()


@pytest.mark.parametrize("count", [1, 2])
def test_too_little_memory_is_met_with_halves(inpainter, monkeypatch, count):
    counts, begin = [], inpainter.begin

    def beginning(pictures, holes, window=None):
        counts.append(len(pictures))
        if len(pictures) > 2:
            raise OutOfMemoryError("out of memory")
        return begin(pictures, holes, window=window)

    monkeypatch.setattr(inpainter, "begin", beginning)
    frames = [scene(i) for i in range(5)]
    with Hands(inpainter, count) as hands:
        results = batch_video.fill_frames(hands, frames, [HOLE] * 5)
    assert sorted(counts) == [1, 2, 2, 4], "four of this size go together"
    for frame, result in zip(frames, results, strict=True):
        assert (result[HOLE.filled] != frame[HOLE.filled]).any() and np.array_equal(result[~HOLE.filled], frame[~HOLE.filled])
