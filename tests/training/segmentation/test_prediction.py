import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.models import MobileNetV2

from serving.frames import resize_frame, resize_mask
from training.segmentation.batches import normalise
from training.segmentation.networks import DeepLabMobileNetV2
from training.segmentation.prediction import predict


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
