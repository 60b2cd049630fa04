"""The paper's ablation at small scale: its variants and the rivals' networks, narrow, trained alike on free photographs.

    python benchmarks/ablation.py photographs -o ablation --minutes 60   # run again until it says that all is done
    python benchmarks/ablation.py photographs -o ablation --table        # docs/ablation.md from what is there

Photographs: those of benchmarks/photographs.py. Every variant of a seed sees the same crops and holes in the same order. A run
that was ended, by --minutes or otherwise, is gone on with to the bit; a finished one is kept. Needs lbam-fast[train,evaluation].
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import bootstrap
from torch import nn

from lbam_fast import LBAM, LBAMConfig
from lbam_fast.data import picture_files
from lbam_fast.evaluation.holes import BUCKETS
from lbam_fast.evaluation.metrics import psnr, ssim
from lbam_fast.evaluation.pictures import centre_crop
from lbam_fast.evaluation.rivals import Rival
from lbam_fast.files import replace_file
from lbam_fast.pictures import read_picture
from lbam_fast.training import Settings, Trainer
from lbam_fast.training.folder import STATE_FILE

PAGE = Path(__file__).parent.parent / "docs" / "ablation.md"
FULL, WITHOUT_CRITIC = "full", "without adversarial loss"
RESULT_FILE = "result.json"
CONFIDENCE, RESAMPLES = 0.95, 2000
HELD_OUT = 20
ADVERSARIAL = 0.001
"""Weight of the adversarial loss: at the published 0.1 little else would count. The page says why, and what that measured."""


@dataclass(frozen=True)
class Variant:
    """A network by its base width, and what is said of it."""

    make: Callable[[int], nn.Module]
    about: str
    critic: bool = True


def lbam(preset: str) -> Callable[[int], nn.Module]:
    return lambda base_width: LBAM(LBAMConfig.preset(preset, base_width=base_width))


def rival(name: str) -> Callable[[int], nn.Module]:
    return lambda base_width: Rival(name, base_width=base_width)


VARIANTS = {
    FULL: Variant(lbam("official"), "learnable maps in both chains"),
    "unlearned": Variant(lbam("unlearned"), "mean filters and 1/m in both chains"),
    "forward": Variant(lbam("forward"), "no reverse chain"),
    WITHOUT_CRITIC: Variant(lbam("official"), "as full, without the critic", critic=False),
    "sigmoid": Variant(lbam("sigmoid"), "a sigmoid for the asymmetric Gaussian"),
    "leaky_relu": Variant(lbam("leaky_relu"), "LeakyReLU for it"),
    "relu": Variant(lbam("relu"), "ReLU for it"),
    "mask3x3": Variant(lbam("mask3x3"), "mask filters of 3x3"),
    "pconv": Variant(lbam("pconv"), "partial convolutions in the same U-Net"),
    "pconv, its own network": Variant(rival("pconv"), "the U-Net of its paper, with BatchNorm"),
    "global-local": Variant(rival("global-local"), "the completion network of its paper, with BatchNorm"),
    "contextual-attention": Variant(rival("contextual-attention"), "both stages of its paper, without normalisation"),
}


def settings(photographs: Path, folder: Path, chosen: argparse.Namespace, seed: int, critic: bool) -> Settings:
    """Alike for all variants but for the critic."""
    return Settings(
        photographs=photographs,
        output=folder,
        held_out=HELD_OUT,
        crop=256,
        batch_size=chosen.batch_size,
        base_width=chosen.base_width,
        steps=chosen.steps,
        learning_rate=1e-3,
        warmup=min(200, chosen.steps // 5),
        ema=0.995,
        critic="wasserstein" if critic else "none",
        adversarial=ADVERSARIAL,
        critic_learning_rate=1e-4,
        critic_base_width=chosen.base_width,
        seed=seed,
        device=chosen.device,
        checkpoint_every=100,
        validate_every=max(1, chosen.steps // 10),
    )


def run(variant: Variant, folder: Path, wanted: Settings, deadline: float) -> nn.Module | None:
    """The trained network, or None where the time is over before it is."""
    torch.manual_seed(wanted.seed)
    network = variant.make(wanted.base_width)
    if (folder / STATE_FILE).exists():
        trainer = Trainer.resume(folder, network, unchanged={"steps": wanted.steps, "batch_size": wanted.batch_size})
    else:
        trainer = Trainer(network, wanted)

    def report(row: dict[str, float]) -> None:
        said = f", {row['psnr']:.2f} dB" if "psnr" in row else ""
        print(f"  {folder.name}: step {row['step']}, {row['seconds_per_step']:.2f} s each{said}", flush=True)
        if time.monotonic() > deadline:
            trainer.stop()

    trainer.run(report)
    return trainer.average.eval() if trainer.step == wanted.steps else None


def held_out(photographs: Path) -> list[NDArray[np.uint8]]:
    """The photographs that no run is trained on, [256, 256, 3]."""
    return [centre_crop(read_picture(path).pixels) for path in picture_files(photographs)[HELD_OUT - 1 :: HELD_OUT]]


def measured(network: nn.Module, pictures: Sequence[NDArray[np.uint8]]) -> dict[str, list[list[float]]]:
    """Each metric of each picture with each kind of holes, known pixels pasted: [picture][kind]."""
    found: dict[str, list[list[float]]] = {"PSNR": [], "SSIM": [], "L1": []}
    device = next(network.parameters()).device
    for i, picture in enumerate(pictures):
        masks = [kind.draw(np.random.default_rng([i, 0, kind.number]), *picture.shape[:2]) for kind in BUCKETS]
        image = torch.from_numpy(picture).to(device).permute(2, 0, 1)[None].float() / 255
        rows: dict[str, list[float]] = {name: [] for name in found}
        for mask in masks:
            known = torch.from_numpy(mask == 0).to(device)[None, None].float()
            with torch.inference_mode():
                output = (
                    (255 * network(image * known, known)[0].float().clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
                )
            filled = np.where(mask[..., None] > 0, output, picture)
            rows["PSNR"].append(psnr(filled, picture))
            rows["SSIM"].append(ssim(filled, picture))
            rows["L1"].append(100 * float(np.abs(filled.astype(float) - picture).mean()) / 255)
        for name, values in rows.items():
            found[name].append(values)
    return found


def work(chosen: argparse.Namespace) -> bool:
    """Train and measure what is missing, seed by seed. Whether nothing is left."""
    deadline = time.monotonic() + 60 * chosen.minutes
    pictures = held_out(chosen.photographs)
    for seed in chosen.seeds:
        for name in chosen.only or VARIANTS:
            folder = chosen.output / f"{name.replace(', ', ' ').replace(' ', '-')}-{seed}"
            if (folder / RESULT_FILE).exists():
                continue
            variant = VARIANTS[name]
            network = run(variant, folder, settings(chosen.photographs, folder, chosen, seed, variant.critic), deadline)
            if network is None:
                return False
            rows = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
            result = {
                "variant": name,
                "seed": seed,
                "steps": chosen.steps,
                "batch_size": chosen.batch_size,
                "base_width": chosen.base_width,
                "parameters": sum(parameter.numel() for parameter in network.parameters()),
                "validation": {str(row["step"]): row["psnr"] for row in rows if "psnr" in row},
                "values": measured(network, pictures),
            }
            replace_file(folder / RESULT_FILE, json.dumps(result).encode())
    return True


def results(output: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text("utf-8")) for path in sorted(output.glob(f"*/{RESULT_FILE}"))]


def per_picture(found: Sequence[Mapping[str, Any]], metric: str) -> NDArray[np.float64]:
    """[picture, kind], means over the seeds."""
    values: NDArray[np.float64] = np.mean([each["values"][metric] for each in found], axis=0)
    return values


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean, and the ends of its interval, by bootstrap over the pictures."""
    rng = np.random.default_rng(0)
    ends = bootstrap((values,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=rng)
    return float(values.mean()), float(ends.confidence_interval.low), float(ends.confidence_interval.high)


def table(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of the table: a variant each, in the order of ``VARIANTS``."""
    kinds = " | ".join(kind.name for kind in BUCKETS)
    yield f"| variant | seeds | {kinds} | mean PSNR, dB | more than full | SSIM | L1, % |"
    yield "|" + "---|" * (len(BUCKETS) + 6)
    by_name = {name: [each for each in found if each["variant"] == name] for name in VARIANTS}
    full = per_picture(by_name[FULL], "PSNR") if by_name[FULL] else None
    for name, own in by_name.items():
        if not own:
            continue
        values = per_picture(own, "PSNR")
        mean, low, high = interval(values.mean(1))
        cells = [name, f"{len(own)}", *(f"{value:.2f}" for value in values.mean(0)), f"{mean:.2f} ({low:.2f} to {high:.2f})"]
        if full is None or name == FULL:
            cells.append("")
        else:
            cells.append("{:+.2f} ({:+.2f} to {:+.2f})".format(*interval((values - full).mean(1))))
        cells += [f"{per_picture(own, 'SSIM').mean():.4f}", f"{per_picture(own, 'L1').mean():.2f}"]
        yield "| " + " | ".join(cells) + " |"


def spread(found: Sequence[dict[str, Any]]) -> str:
    """What seeds alone make, in words."""
    parts = []
    for name in VARIANTS:
        means = [float(np.mean(each["values"]["PSNR"])) for each in found if each["variant"] == name]
        if len(means) > 1:
            parts.append(f"{name} {min(means):.2f} to {max(means):.2f}")
    if not parts:
        return "One seed each: how much of a difference the seed alone makes was not measured."
    return f"Mean PSNR by seed, lowest to highest: {'; '.join(parts)}."


def curves(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """PSNR on the validation crops along the training, means over the seeds."""
    steps = list(found[0]["validation"])
    yield "| step | " + " | ".join(steps) + " |"
    yield "|" + "---|" * (len(steps) + 1)
    for name in VARIANTS:
        own = [each["validation"] for each in found if each["variant"] == name]
        if own:
            yield f"| {name} | " + " | ".join(f"{np.mean([each[step] for each in own]):.2f}" for step in steps) + " |"


def page(found: Sequence[dict[str, Any]]) -> str:
    first = found[0]
    if any(each[key] != first[key] for each in found for key in ("steps", "batch_size", "base_width")):
        raise SystemExit("the results are of runs with different settings: give each its own folder")
    pictures = len(first["values"]["PSNR"])
    about = "\n".join(
        f"| {name} | {variant.about} |" for name, variant in VARIANTS.items() if any(e["variant"] == name for e in found)
    )
    return f"""# Ablation at small scale

The variants of the paper's ablation, and the rivals' networks, trained alike: base width {first["base_width"]} (published: 64),
{first["steps"]} steps of {first["batch_size"]} crops of 256x256 from free photographs, the same crops and holes for each
variant of a seed; absolute error (weight 6 in holes, 1 on known pixels) and, but for one variant, a Wasserstein critic with
gradient penalty (weight {ADVERSARIAL:g}). No perceptual and no style loss. `benchmarks/ablation.py` trains them and writes this
page.

| variant | |
|---|---|
{about}

PSNR in dB on {pictures} photographs that were held out: the centre, 256x256, one mask for each range of the hole's share, whole
picture, known pixels pasted; means over seeds. In brackets 95 % intervals by bootstrap over the pictures, of differences paired
by picture.

{chr(10).join(table(found))}

{spread(found)}

Along the training, PSNR on 64 validation crops:

{chr(10).join(curves(found))}

## What this shows and what it does not

It shows which variants learn faster in the first {first["steps"]} steps of a narrow network, on few photographs, all else equal.
A curve that is level from the start is a network that learns nothing at this learning rate (0.001): maps without a bound, as ReLU
and LeakyReLU give, can drive the output into saturation.

The critic's weight is {ADVERSARIAL:g}, not the published 0.1. A critic with gradient penalty has a slope of about 1 over a whole
picture; the error in holes of a fifth of it, a mean over all pixels with a weight of 6, has one of 0.006. So at 0.1 the critic
decides: `full` ended at 18.07 dB then, `without adversarial loss` at 25.66 (400 steps of 2 crops, width 8, one seed), and
variants differed mostly in how they bore that. The published loss has a sigmoid on the critic, which flattens its slope.

It does not show what the paper's tables show: full width, 500 epochs of Paris StreetView, perceptual and style losses, after
which what is learned slowly may lead. Intervals are over pictures: they say how sure a difference between these networks is, not
whether another training would give it again: one that is smaller than what seeds alone make says nothing. "pconv, its own
network" differs from the others in more than its maps: filters of 3x3 to 7x7, nearest-neighbour upsampling, BatchNorm.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run of each variant a seed")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, metavar="VARIANT", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--base-width", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after these, to be gone on with")
    parser.add_argument("--table", action="store_true", help=f"train nothing; write {PAGE.name} from what is there")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if not chosen.table:
        print("all is done" if work(chosen) else "time is over: run this again to go on")
    if found := results(chosen.output):
        replace_file(PAGE, page(found).encode())


if __name__ == "__main__":
    main()
