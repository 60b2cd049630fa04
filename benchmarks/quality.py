"""Print the quality table: ``python benchmarks/quality.py [--weights FILE] [--kind noise|thin|medium|thick]``.

Mean PSNR on the evaluation photographs (scikit-image and scikit-learn), 256x256, by hole ratio, beside OpenCV's inpainting.
"""

import argparse

from lbam_fast.data import MASK_KINDS
from lbam_fast.evaluation import evaluation_pictures, markdown, quality_table
from lbam_fast.inference import Inpainter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="weights file; by default the network that ships in the package")
    parser.add_argument("--kind", default="noise", choices=MASK_KINDS, help="how the masks are drawn")
    parser.add_argument("--masks-each", type=int, default=4, help="masks per picture and hole ratio")
    options = parser.parse_args()
    pictures = list(evaluation_pictures().values())
    rows = quality_table({"LBAM": Inpainter.from_pretrained(options.weights)}, pictures, options.kind, options.masks_each)
    print(f"{options.kind} masks, {rows[0].samples} samples a row")
    print(markdown(rows, "LBAM"))


if __name__ == "__main__":
    main()
