"""The kernel of the image network's input in Triton's interpreter against the reference: the same bits."""

import pytest
import torch
from interpreted import as_on_a_gpu  # noqa: F401 - applies itself
from networks import images, masks

from lbam_fast import reference
from lbam_fast.kernels import inputs


@pytest.mark.sampled("dtype", "channels", "kind", "layout")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(("kind", "mask_channels", "masks_of"), [("soft", 1, 3), ("per_channel", 3, 3), ("box", 1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_the_reference_to_the_bit(layout, kind, mask_channels, masks_of, channels, dtype):
    image = images(3, 128, 128).float()
    mask = masks(*[kind] * masks_of)[:, :mask_channels].float()
    image = torch.where(mask == 0, torch.nan, image).contiguous(memory_format=layout)[..., 3:-30]
    mask = mask.contiguous(memory_format=layout)[..., 3:-30]
    found = inputs.damaged_input(image, mask, channels, dtype)
    assert found.is_contiguous(memory_format=torch.channels_last) and found.dtype == dtype
    assert torch.equal(found, reference.damaged_input(image, mask, channels).to(dtype))


def test_a_wrong_stride_is_noticed():
    """A shared mask that is taken for one of each picture's own reads past its end, or another picture's."""
    image, mask = images(2).float(), masks("box", "irregular")[:, :1].float()
    right = reference.damaged_input(image, mask, 4)
    assert torch.equal(inputs.damaged_input(image, mask, 4, torch.float32), right)
    assert not torch.equal(inputs.damaged_input(image, mask[:1], 4, torch.float32), right)


def test_an_empty_batch():
    found = inputs.damaged_input(torch.empty(0, 3, 128, 128), torch.ones(1, 1, 128, 128), 4, torch.float32)
    assert found.shape == (0, 4, 128, 128)
