"""The public dialects of the rivals' networks, as data: what each reads and writes, and where its weights are.

A checkpoint works with its own dialect alone: colour order, range and what stands in the hole are invisible in its weights.
"""

from __future__ import annotations

from dataclasses import dataclass

Triple = tuple[float, float, float]

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
SYMMETRIC = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
"""Mean and standard deviation that take [0, 1] to [-1, 1]."""
PLACES_MEAN = (0.4560, 0.4472, 0.4155)
"""Of the Places2 network of Global&Local's authors; their files in Torch's format carry their own."""


@dataclass(frozen=True)
class Dialect:
    """One dialect of a network.

    method        its name on the command line
    weights       the published files and their licence
    mean, std     RGB: the network reads ``(image - mean) / std``, image in [0, 1]
    bgr           whether it reads and writes blue first
    hole          RGB: what it reads in holes, in its own range; None: comes with the checkpoint
    normalised    whether its output is in the range of its input (which is undone), or in [0, 1] as it is
    multiple      of height and width
    smallest      height and width
    """

    method: str
    weights: str
    mean: Triple = SYMMETRIC[0]
    std: Triple = SYMMETRIC[1]
    bgr: bool = False
    hole: Triple | None = (0.0, 0.0, 0.0)
    normalised: bool = True
    multiple: int = 8
    smallest: int = 8


_CA_AUTHORS = (
    "github.com/JiahuiYu/generative_inpainting, branch v1.0.0: folders release_{places2,imagenet,celeba,celeba_hq}_256 "
    "(CC BY-NC 4.0), or torch_model.p made from them"
)
_DAA233 = "github.com/daa233/generative-inpainting-pytorch: gen_*.pt, ImageNet (MIT)"

DIALECTS: dict[str, Dialect] = {
    "pconv_naoto": Dialect(
        "pconv",
        "github.com/naoto0804/pytorch-inpainting-with-partial-conv, release v0.0.0: 1000000.pth, Places2 (MIT)",
        *IMAGENET,
        multiple=128,
        smallest=128,
    ),
    "pconv_mmagic": Dialect(
        "pconv",
        "github.com/open-mmlab/mmagic: pconv_256x256_stage2_4x2_places_20200619-1ffed0e8.pth, "
        "pconv_256x256_stage2_4x2_celeba_20200619-860f8b95.pth (Apache-2.0)",
        bgr=True,
        multiple=128,
        smallest=128,
    ),
    "gl_authors": Dialect(
        "global-local",
        "github.com/satoshiiizuka/siggraph2017_inpainting: completionnet_places2.t7, completionnet_places2_freeform.t7, "
        "completionnet_celeba.t7 (CC BY-NC-SA 4.0)",
        PLACES_MEAN,
        NONE[1],
        normalised=False,
        multiple=4,
        smallest=4,
    ),
    "gl_otenim": Dialect(
        "global-local",
        "github.com/otenim/GLCIC-PyTorch: CelebA, with the config.json that belongs beside it (MIT)",
        *NONE,
        hole=None,
        normalised=False,
        multiple=4,
        smallest=4,
    ),
    "gl_mmagic": Dialect(
        "global-local",
        "github.com/open-mmlab/mmagic: gl_256x256_8x12_places_20200619-52a040a8.pth, "
        "gl_256x256_8x12_celeba_20200619-5af0493f.pth (Apache-2.0)",
        bgr=True,
        multiple=4,
        smallest=4,
    ),
    "ca_authors_floor": Dialect("contextual-attention", _CA_AUTHORS, bgr=True),
    "ca_authors_round": Dialect("contextual-attention", _CA_AUTHORS, bgr=True),
    "ca_daa233": Dialect("contextual-attention", _DAA233),
    "ca_daa233_sum": Dialect("contextual-attention", _DAA233),
    "ca_mmagic": Dialect(
        "contextual-attention",
        "github.com/open-mmlab/mmagic: deepfillv1_256x256_8x2_places_20200619-c00a0e21.pth, "
        "deepfillv1_256x256_4x4_celeba_20200619-dd51a855.pth (Apache-2.0)",
        bgr=True,
        smallest=72,
    ),
}

METHODS = {"pconv": "pconv_mmagic", "global-local": "gl_authors", "contextual-attention": "ca_daa233"}
"""Names on the command line, and the dialect that a new network of that name has, to be trained."""


def where_weights_are(method: str) -> str:
    """The published files that ``method`` can load, one a line."""
    return "\n".join(dict.fromkeys(f"  {dialect.weights}" for dialect in DIALECTS.values() if dialect.method == method))
