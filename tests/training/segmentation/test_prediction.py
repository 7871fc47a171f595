import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import MobileNetV2

from serving.frames import resize_frame, resize_mask
from training.segmentation.batches import normalise
from training.segmentation.networks import DeepLab, DeepLabMobileNetV2, resize_logits
from training.segmentation.networks.base import rate_groups
from training.segmentation.networks.heads import AtrousSpatialPyramid
from training.segmentation.prediction import predict
from training.settings.learning import PredictionSettings


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DeepLabMobileNetV2(MobileNetV2(width_mult=0.25), 4, aspp_rates=(1, 2))
    for parameter in network.head.parameters():
        parameter.data.mul_(1000)  # so that the classes' probabilities are far apart
    return network


def frame_of(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_a_frame_of_the_input_size(network):
    frame = frame_of(65, 97)
    answer = predict(network, frame, (65, 97))
    image = torch.from_numpy(normalise(frame.astype(np.float32))).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = functional.interpolate(network(image), (65, 97), mode="bilinear", align_corners=True)
    winning, expected = logits.softmax(dim=1).max(dim=1)
    assert answer.class_ids.dtype == answer.confidence.dtype == np.uint8
    assert (answer.class_ids == expected[0].numpy()).mean() > 0.999
    assert np.abs(answer.confidence - 255 * winning[0].numpy()).max() < 0.51
    assert len(np.unique(answer.class_ids)) > 1


def test_another_size_is_resized_in_and_out(network):
    frame = frame_of(50, 60)
    answer = predict(network, frame, (64, 64))
    inner = predict(network, resize_frame(frame, 64, 64), (64, 64))
    assert answer.class_ids.shape == answer.confidence.shape == (50, 60)
    assert np.array_equal(answer.class_ids, resize_mask(inner.class_ids, 50, 60))
    assert np.array_equal(answer.confidence, resize_mask(inner.confidence, 50, 60))


class SmallNetwork(DeepLab):
    def parameter_groups(self):
        return rate_groups(self.parameters(), weights=1, others=1)


def small_network(symmetric=False):
    """A network that sees little: a pixel's answer depends on frame pixels at most 11 away (`REACH`)."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU()
        )
        network = SmallNetwork(backbone, AtrousSpatialPyramid(8, 3, (1,), 0), classes=3, output_stride=4)
    for parameter in network.head.parameters():
        parameter.data.mul_(300)
    if symmetric:
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.data.add_(module.weight.data.flip(3)).div_(2)
    return network


REACH = 11
"""A pixel lies less than 4 pixels from the cells that it is interpolated from; the head sees 1 cell further, 4 pixels,
the second layer 1 of 2 pixels, the first 1 pixel: 3 + 4 + 2 + 1 = 10, and one to spare."""
FULL = PredictionSettings(resolution="frame")


def seen_at(network, frame, **changes):
    return predict(network, frame, (64, 64), FULL.model_copy(update=changes))


def test_the_defaults_are_the_exported_files_way(network):
    frame = frame_of(50, 60)
    for one, other in zip(
        predict(network, frame, (64, 64), PredictionSettings()), predict(network, frame, (64, 64)), strict=True
    ):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("changes", [{}, {"scales": (1.0, 1.0)}])
def test_at_the_input_size_the_frames_own_resolution_is_the_same(network, changes):
    frame = frame_of(64, 64)
    expected, answer = predict(network, frame, (64, 64)), seen_at(network, frame, **changes)
    assert (answer.class_ids == expected.class_ids).mean() > 0.999
    # Rounded to 1/255: where the float sums differ in their last bits, by one step at most.
    assert np.abs(answer.confidence.astype(int) - expected.confidence).max() <= 1


def test_scales_are_averaged_as_probabilities_at_the_frames_resolution(network):
    frame = frame_of(50, 60)
    answer = predict(network, frame, (64, 80), PredictionSettings(scales=(0.5, 1.5)))
    expected = []
    with torch.no_grad():
        for height, width in ((32, 40), (96, 120)):
            image = normalise(resize_frame(frame, height, width).astype(np.float32))
            cells = network(torch.from_numpy(image).permute(2, 0, 1)[None])
            logits = resize_logits(cells, height, width, network.output_stride)
            logits = functional.interpolate(logits, (50, 60), mode="bilinear", align_corners=False)
            expected.append(logits[0].softmax(0))
    winning, class_ids = torch.stack(expected).mean(dim=0).max(dim=0)
    assert (answer.class_ids == class_ids.numpy()).mean() > 0.999
    assert np.abs(answer.confidence - 255 * winning.numpy()).max() < 0.51
    assert answer.class_ids.shape == (50, 60)


def test_the_mirror_image_of_a_symmetric_network_says_the_same():
    frame = frame_of(33, 65)  # 4 k + 1, so that the mirrored cells lie on the cells
    plain, mirrored = (seen_at(small_network(symmetric=True), frame, flip=flip) for flip in (False, True))
    assert (plain.class_ids == mirrored.class_ids).mean() > 0.999
    assert np.abs(plain.confidence.astype(int) - mirrored.confidence).max() <= 1
    plain, mirrored = (seen_at(small_network(), frame, flip=flip) for flip in (False, True))
    assert (plain.class_ids == mirrored.class_ids).mean() < 0.99


def test_with_mirror_images_a_mirrored_frame_has_the_mirrored_answer(network):
    frame = frame_of(64, 97)
    one, other = (seen_at(network, each, flip=True) for each in (frame, np.ascontiguousarray(frame[:, ::-1])))
    assert (one.class_ids == other.class_ids[:, ::-1]).mean() > 0.999


@pytest.mark.parametrize("overlap", [0, REACH])
def test_tiles_answer_as_the_whole_frame_does_away_from_seams(overlap):
    frame, network = frame_of(100, 150), small_network()
    whole = seen_at(network, frame)
    tiled = seen_at(network, frame, tile_pixels=64**2, tile_overlap=overlap)
    seams = [np.zeros(length, bool) for length in (100, 150)]
    if not overlap:
        # Parts of at most 64: rows begin at 0 and 52, columns at 0, 52 and 104.
        for side, starts in zip(seams, ((52,), (52, 104)), strict=True):
            for start in starts:
                side[start - REACH : start + REACH] = True
    away = ~(seams[0][:, None] | seams[1])
    # The same sums over the same pixels: only their order may differ, so a near tie or a rounding, by 1 / 255.
    assert (tiled.class_ids == whole.class_ids)[away].mean() > 0.9999
    assert np.abs(tiled.confidence.astype(int) - whole.confidence)[away].max() <= 1
    if not overlap:
        assert np.abs(tiled.confidence.astype(int) - whole.confidence).max() > 20


def test_tiles_hold_at_all_scales_and_for_mirror_images():
    frame, network = frame_of(96, 160), small_network()
    options = {"scales": (0.5, 1.0, 2.0), "flip": True}
    whole = seen_at(network, frame, **options)
    tiled = seen_at(network, frame, **options, tile_pixels=4 * 96**2, tile_overlap=2 * REACH + 2)
    # Resizing sees one pixel more, and a mirrored cell lies elsewhere in a tile: close, no longer equal.
    assert (tiled.class_ids == whole.class_ids).mean() > 0.97
