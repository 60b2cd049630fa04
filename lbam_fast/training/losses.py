"""What a training minimises. Pictures are [N, 3, H, W] in [0, 1], masks [N, 1, H, W] with 1 = known."""

import torch
from torch import Tensor


def reconstruction_loss(output: Tensor, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(hole, valid): mean absolute error over [N, 3, H, W], counted where the mask [N, 1, H, W] is 0 and where it is 1."""
    error = (output.float() - image).abs()
    return (error * (1 - mask)).mean(), (error * mask).mean()


def log_squared_error(output: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Mean over the pictures of the natural logarithm of their mean squared error in the hole, shapes as above.

    It falls by ln(10) / 10 for each dB of PSNR. A picture without a hole counts nothing.
    """
    hole = 1 - mask
    squares = ((output.float() - image).square() * hole).sum(dim=(1, 2, 3))
    pixels = 3 * hole.sum(dim=(1, 2, 3))
    return torch.where(pixels > 0, (squares / pixels.clamp(min=1) + 1e-8).log(), 0).mean()


def relative_error(output: Tensor, image: Tensor, mask: Tensor, rival: Tensor) -> Tensor:
    """Mean over the pictures of the root of the mean squared error in the hole, relative to that of ``rival``; shapes as above.

    1 where both are as far from ``image``. A smooth picture counts as much as one full of detail, as in PSNR, but one that
    ``rival`` fills within a grey level counts little. A picture without a hole counts nothing.
    """
    hole = 1 - mask
    pixels = 3 * hole.sum(dim=(1, 2, 3))

    def squared(picture: Tensor) -> Tensor:
        return ((picture.float() - image).square() * hole).sum(dim=(1, 2, 3)) / pixels.clamp(min=1)

    ratio = (squared(output) + 1e-6).sqrt() / (squared(rival) + 1e-5).sqrt()
    return torch.where(pixels > 0, ratio, 0).mean()
