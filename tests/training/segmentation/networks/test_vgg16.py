import pytest
import torch
from torch import nn
from torchvision.models import vgg16

from training.segmentation.batches import Sample
from training.segmentation.networks import DeepLabVGG16, DeepLabVGG16LargeFOV
from training.segmentation.trainer import train
from training.settings.learning import TrainerSettings

CLASSES = 3


@pytest.fixture(scope="module")
def classifier():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return vgg16(init_weights=False).eval()  # torch's own start is as random, and takes less time


@pytest.fixture(scope="module")
def largefov(classifier):
    return DeepLabVGG16LargeFOV(classifier, CLASSES)


def layers_of(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


def test_convolutions_are_the_classifiers_and_conv5_is_dilated(classifier, largefov):
    given, taken = layers_of(classifier.features, nn.Conv2d), layers_of(largefov.backbone, nn.Conv2d)
    assert len(given) == len(taken) == 13
    assert all(torch.equal(one.weight, other.weight) for one, other in zip(given, taken, strict=True))
    assert all(torch.equal(one.bias, other.bias) for one, other in zip(given, taken, strict=True))
    assert [layer.dilation for layer in taken] == 10 * [(1, 1)] + 3 * [(2, 2)]
    assert [layer.dilation for layer in given] == 13 * [(1, 1)]


@pytest.mark.parametrize(("output_stride", "pool4", "conv5"), [(8, 1, (2, 2)), (16, 2, (1, 1))])
def test_every_pooling_is_3_x_3_and_the_last_ones_keep_the_grid(output_stride, pool4, conv5):
    with torch.device("meta"):
        network = DeepLabVGG16(vgg16(), CLASSES, output_stride=output_stride)
    pools = layers_of(network, nn.MaxPool2d)
    assert [(pool.kernel_size, pool.padding) for pool in pools] == 5 * [(3, 1)]
    assert [pool.stride for pool in pools] == [2, 2, 2, pool4, 1]
    assert layers_of(network.backbone, nn.Conv2d)[-1].dilation == conv5


def test_fc6_and_fc7_are_thinned_out_from_the_classifiers(classifier, largefov):
    fc6, _, _, fc7, _, _, fc8 = largefov.head.branches[0]
    first, second = classifier.classifier[0], classifier.classifier[3]
    assert fc6.weight.shape == (1024, 512, 3, 3) and fc7.weight.shape == (1024, 1024, 1, 1)
    assert torch.equal(fc6.weight, first.weight.view(4096, 512, 7, 7)[::4, :, ::3, ::3])
    # One weight by hand: filter 5 is the classifier's 20th, row 1 its row 3, column 2 its column 6, channel 7.
    assert fc6.weight[5, 7, 1, 2] == first.weight[20, 7 * 49 + 3 * 7 + 6]
    assert torch.equal(fc6.bias, first.bias[::4])
    assert torch.equal(fc7.weight[..., 0, 0], second.weight[::4, ::4])
    assert torch.equal(fc7.bias, second.bias[::4])
    assert fc8.weight.std().item() == pytest.approx(0.01, rel=0.05) and not fc8.bias.any()


def test_branches_of_the_pyramid_start_alike_but_for_their_classes(classifier):
    branches = DeepLabVGG16(classifier, CLASSES).head.branches
    assert [branch[0].dilation for branch in branches] == [(6, 6), (12, 12), (18, 18), (24, 24)]
    for branch in branches[1:]:
        assert torch.equal(branch[0].weight, branches[0][0].weight)
        assert torch.equal(branch[3].weight, branches[0][3].weight)
        assert not torch.equal(branch[6].weight, branches[0][6].weight)


def test_largefov_has_one_branch_of_rate_12_behind_a_mean(largefov):
    assert isinstance(largefov.backbone[-1], nn.AvgPool2d)
    assert [branch[0].dilation for branch in largefov.head.branches] == [(12, 12)]
    assert [layer.p for layer in layers_of(largefov, nn.Dropout)] == [0.5, 0.5]


def test_largefov_takes_one_rate(classifier):
    with pytest.raises(ValueError, match=r"LargeFOV has one rate, got \(6, 12\)"):
        DeepLabVGG16LargeFOV(classifier, CLASSES, aspp_rates=(6, 12))


def test_learning_rates_are_the_published_ones(largefov):
    names = {id(parameter): name for name, parameter in largefov.named_parameters()}
    groups = largefov.parameter_groups()
    assert [(group.rate_factor, group.decayed) for group in groups] == [(1, True), (2, False), (10, True), (20, False)]
    assert [len(group.parameters) for group in groups] == [15, 15, 1, 1]
    assert [names[id(group.parameters[0])] for group in groups[2:]] == [
        "head.branches.0.6.weight",
        "head.branches.0.6.bias",
    ]


@pytest.mark.slow
def test_one_step_at_321(classifier, tmp_path):
    network = DeepLabVGG16(classifier, CLASSES)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    generator = torch.Generator().manual_seed(0)

    def load(_frame_id):
        frame = torch.randint(0, 256, (321, 321, 3), generator=generator, dtype=torch.uint8)
        return Sample(frame.numpy(), (frame[..., 0] // 86).numpy())

    losses = train(
        network,
        load,
        ["frame"],
        TrainerSettings(updates=1, batch=1, crop=(321, 321), learning_rate=1e-4),
        labels=pytest.fail,
        seed=0,
        round_number=0,
        checkpoint=tmp_path / "state.safetensors",
    )
    assert losses.shape == (1,) and 0 < losses[0] < 10
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == list(before)
