"""The arguments and options of ``lbam-fast inpaint``, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lbam_fast.config import HoleColour

Image = Annotated[Path, typer.Argument(help="Picture, or folder of pictures, or video file.")]
Output = Annotated[
    Path, typer.Option("-o", "--output", help="File or folder for the result; with --engine ray also s3://... and the like.")
]
Mask = Annotated[
    Path | None,
    typer.Argument(
        help="Mask of the picture's size, white = hole unless --hole black. With a folder of pictures: a folder of masks "
        "named as they are (NAME.png or NAME_mask000.png), or one mask for all, or none where the masks lie beside them. "
        "With a video: one for all frames, or a folder or a video of masks, one for each."
    ),
]
Hole = Annotated[HoleColour, typer.Option(help="Colour of the hole in masks.")]
MaskFrom = Annotated[
    Literal["alpha"] | None,
    typer.Option(help="alpha: not from a mask; what is transparent is the hole, whatever --hole says."),
]
Threshold = Annotated[float, typer.Option(help="Mask values beyond it, towards the hole's colour, are hole; from 0 to 1.")]
Grow = Annotated[int, typer.Option(metavar="PX", help="Widen the hole by so many pixels.")]
Feather = Annotated[int, typer.Option(metavar="PX", help="Blend over so many pixels of what --grow added.")]
Detail = Annotated[
    Literal["auto", "exemplar", "off"],
    typer.Option(help="Texture from the known pixels, over what the network fills; auto: for narrow networks and thin holes."),
]
Strategy = Annotated[
    Literal["auto", "whole", "resize", "crop", "tile"],
    typer.Option(
        help="For large pictures. whole: in one pass; resize: at most 1024 pixels on a side; crop: boxes around the holes; "
        "tile: overlapping tiles; auto: whole up to 1024x1024 pixels, then crop where that saves half, else tile."
    ),
]
Passes = Annotated[int, typer.Option(help="1, 2, 4 or 8: the mean over so many turned and mirrored pictures.")]
Weights = Annotated[Path | None, typer.Option(help="Weights file; by default the network in the package.")]
Preset = Annotated[str | None, typer.Option(help="The network that they belong to, where several fit.")]
Device = Annotated[
    str,
    typer.Option(help="auto, cpu, cuda, cuda:1, or several: cuda:0,cuda:1, a process for each; auto: for a folder all GPUs."),
]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(help="local: this machine; ray: the machines of a Ray cluster, which see the files under the same paths."),
]
Address = Annotated[
    str | None,
    typer.Option(help="Of the Ray cluster, or auto; by default RAY_ADDRESS, or a Ray on this machine for the time it takes."),
]
Workers = Annotated[
    int | None, typer.Option(metavar="N", help="Ray workers; by default one for each GPU, else one for each machine.")
]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or float64; by default float32.")]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"] | None,
    typer.Option(help="In place of --dtype; auto: the fastest that the device runs natively, which is named."),
]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all by default.")]
MaxPixels = Annotated[
    int | None, typer.Option(metavar="N", help="Refuse pictures and masks of more pixels; by default 500 million.")
]
MaxMemory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Such as 2GB: larger pictures are filled region by region, from files into files."),
]
Recursive = Annotated[bool, typer.Option("--recursive", help="Search subfolders too, and keep them.")]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Do not write results that exist.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Keep a journal in the output folder, and skip what it has as done from the same inputs and options: however a run "
        "ended, the same command goes on.",
    ),
]
Format = Annotated[str | None, typer.Option(help="Suffix of results in a folder; by default each picture's own.")]
Comparison = Annotated[
    Path | None, typer.Option(help="Also write the picture as given, with its hole, and filled, side by side.")
]
Codec = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Of videos: FFmpeg's encoder, such as libx264 or ffv1; by default the video's own codec."),
]
CodecOptions = Annotated[
    str | None,
    typer.Option(
        metavar="KEY=VALUE,...", help="Of that encoder, such as crf=18,preset=slow; by default such that little is lost."
    ),
]
Temporal = Annotated[
    bool,
    typer.Option("--temporal", help="Of videos: where nothing moves around a hole, it keeps most of what it showed before."),
]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write what became of every picture, with times, sizes and errors, as JSON."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print warnings and errors only.")]
