import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet, resnet101

from training.segmentation.networks import DeepLabResNet101


@pytest.fixture(scope="module")
def classifier():
    """Of two blocks a layer: what ResNet-101 has, fewer times."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ResNet(Bottleneck, [2, 2, 2, 2]).eval()


@pytest.mark.parametrize(("output_stride", "step"), [(16, 2), (8, 4)])
def test_dilation_keeps_what_the_classifier_saw(classifier, output_stride, step):
    features = nn.Sequential(*list(classifier.children())[:-2])
    network = DeepLabResNet101(classifier, 3, output_stride=output_stride).eval()
    image = torch.randn(1, 3, 97, 65, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        coarse, fine = features(image), network.backbone(image)
    assert coarse.shape[2:] == (4, 3)
    torch.testing.assert_close(fine[..., ::step, ::step], coarse)


def test_dilations_are_the_published_ones_but_in_first_blocks():
    with torch.device("meta"):
        network = DeepLabResNet101(resnet101(), 21)
    for layer, first, others, blocks in (("layer2", 1, 1, 4), ("layer3", 1, 2, 23), ("layer4", 2, 4, 3)):
        dilations = [block.conv2.dilation for block in getattr(network.backbone, layer)]
        assert dilations == [(first, first)] + (blocks - 1) * [(others, others)]


def test_pyramid_starts_small(classifier):
    head = DeepLabResNet101(classifier, 11).head
    assert [branch.dilation for branch in head.branches] == [(6, 6), (12, 12), (18, 18), (24, 24)]
    for branch in head.branches:
        assert branch.weight.shape == (11, 2048, 3, 3)
        assert branch.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert not branch.bias.any()


def test_learning_rates_are_the_published_ones(classifier):
    groups = DeepLabResNet101(classifier, 3).parameter_groups()
    assert [(group.rate_factor, group.decayed) for group in groups] == [(1, True), (0, False), (10, True), (20, False)]
    assert [len(group.parameters) for group in groups] == [29, 58, 4, 4]
