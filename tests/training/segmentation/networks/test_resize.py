import torch
from torch.nn import functional

from training.segmentation.networks import resize_logits


def test_resize_logits_by_hand():
    # Two cells, on pixels 0 and 4; beyond the last one it repeats.
    logits = torch.tensor([[[[0.0, 8.0]]]])
    assert resize_logits(logits, 2, 8, 4).tolist() == [[[[0, 2, 4, 6, 8, 8, 8, 8]] * 2]]


def test_resize_logits_is_interpolation_with_aligned_corners_at_32k_plus_1():
    logits = torch.randn(2, 3, 3, 5, generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(logits, (33, 65), mode="bilinear", align_corners=True)
    torch.testing.assert_close(resize_logits(logits, 33, 65, 16), expected)
