"""Print the quality table of a network beside methods without learning: PSNR, SSIM and ST-LPIPS on photographs, 256x256.

    python benchmarks/quality.py                                              # the set to decide with, the network alone
    python benchmarks/quality.py --options passes=8 detail=auto,passes=8      # and with options of Inpainter
    python benchmarks/quality.py --set final --pictures photographs           # the set that is looked at once, at the end

The set to decide with lies inside scikit-image and scikit-learn; the final one is listed in docs/evaluation-photographs.tsv.
"""

import argparse
import csv
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lbam_fast.evaluation import (
    PSNR,
    RIVALS,
    Method,
    Metric,
    QualityRow,
    available_metrics,
    available_rivals,
    evaluation_pictures,
    folder_pictures,
    markdown,
    quality_table,
)
from lbam_fast.evaluation.methods import Pixels
from lbam_fast.inference import Inpainter
from lbam_fast.pictures import PictureError

FINAL_LIST = Path(__file__).parent.parent / "docs" / "evaluation-photographs.tsv"
NETWORK = "LBAM"
ALONE: dict[str, Any] = {"detail": "off", "passes": 1}


def settings(text: str) -> dict[str, Any]:
    """``detail=auto,passes=8`` as options of Inpainter, all others as for the network alone. Raises ValueError."""
    chosen = dict(ALONE)
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name not in ALONE or not value:
            raise ValueError(f"{part!r} is no option, expected one like " + " or ".join(f"{n}={v}" for n, v in ALONE.items()))
        chosen[name] = type(ALONE[name])(value)
    return chosen


def networks(weights: str | None, options: Sequence[str]) -> dict[str, Method]:
    """The network alone, and with each of ``options``."""
    methods: dict[str, Method] = {NETWORK: Inpainter.from_pretrained(weights, **ALONE)}
    return methods | {f"{NETWORK} {text}": Inpainter.from_pretrained(weights, **settings(text)) for text in options}


def only(names: str | None, methods: dict[str, Method]) -> dict[str, Method]:
    """Those of ``methods`` that ``names`` lists, or all. Raises ValueError."""
    chosen = names.split(",") if names else list(methods)
    if unknown := [name for name in chosen if name not in methods]:
        raise ValueError(f"no method is called {', '.join(unknown)}; there are {', '.join(methods)}")
    return {name: methods[name] for name in chosen}


def pictures(chosen: str, folder: Path | None) -> list[Pixels]:
    """The set ``decide``, ``final`` as gathered in ``folder``, or the folder that ``chosen`` names. Raises PictureError."""
    if chosen == "decide":
        return list(evaluation_pictures().values())
    if chosen != "final":
        return list(folder_pictures(Path(chosen)).values())
    if folder is None:
        raise PictureError(f"--set final needs --pictures FOLDER with the photographs that {FINAL_LIST.name} lists")
    with FINAL_LIST.open(encoding="utf-8", newline="") as lines:
        listed = sum(1 for _ in csv.DictReader(lines, delimiter="\t"))
    found = list(folder_pictures(folder).values())
    if len(found) != listed:
        raise PictureError(f"{folder} holds {len(found)} pictures, expected the {listed} that {FINAL_LIST.name} lists")
    return found


def write_csv(path: Path, rows: Sequence[QualityRow]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["holes", "samples", "metric", "method", "mean"])
        for row in rows:
            for metric, means in row.means.items():
                writer.writerows([row.holes, row.samples, metric, method, mean] for method, mean in means.items())


def show(rows: Sequence[QualityRow], metrics: Sequence[Metric]) -> None:
    for metric in metrics:
        methods = rows[0].means[metric.name]
        rivals = [name for name in methods if name in RIVALS]
        gain = (NETWORK, rivals) if metric is PSNR and rivals and NETWORK in methods else None
        direction = "more" if metric.more_is_better else "less"
        print(f"\n{metric.name}, mean of {rows[0].samples} samples a row, {direction} is better\n")
        print(markdown(rows, metric, gain))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="weights file; by default the network that ships in the package")
    parser.add_argument("--set", default="decide", metavar="decide|final|FOLDER", help="which photographs")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="the gathered photographs of the final set")
    parser.add_argument("--masks-each", type=int, default=1, help="masks per picture and row")
    parser.add_argument("--options", nargs="*", default=[], metavar="NAME=VALUE,...", help="the network with these, too")
    parser.add_argument("--methods", metavar="NAME,...", help=f"only these of {', '.join(RIVALS)} and the networks")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, by default one a core")
    parser.add_argument("--st-lpips", type=Path, metavar="PATH", help="wheel of stlpips-pytorch, its folder or weights")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the means there, too")
    chosen = parser.parse_args()

    rivals, missing_rivals = available_rivals()
    metrics, missing_metrics = available_metrics(chosen.st_lpips)
    try:
        methods = only(chosen.methods, rivals | networks(chosen.weights, chosen.options))
        photographs = pictures(chosen.set, chosen.pictures)
    except (PictureError, ValueError) as error:
        parser.error(str(error))
    start = time.perf_counter()
    rows = quality_table(methods, metrics, photographs, masks_each=chosen.masks_each, jobs=chosen.jobs)
    print(f"{len(photographs)} photographs, {chosen.masks_each} masks each, {time.perf_counter() - start:.0f} s")
    for note in (*missing_rivals, *missing_metrics):
        print(note)
    show(rows, metrics)
    if chosen.csv:
        write_csv(chosen.csv, rows)


if __name__ == "__main__":
    main()
