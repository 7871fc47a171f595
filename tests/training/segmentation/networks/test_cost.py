import json

import pytest
from click.testing import CliRunner

from training.cli import main
from training.segmentation.networks import NETWORKS
from training.segmentation.networks.cost import network_cost
from training.settings.learning import NetworkSettings
from training.settings.method import CamSettings

# By hand, of 21 classes as in PASCAL VOC. Chen et al. (ICLR 2015, table 2) give 20.5 M for LargeFOV.
VGG16_CONVOLUTIONS = 14_714_688
FC6, FC7, FC8 = 9 * 512 * 1024 + 1024, 1024 * 1024 + 1024, 21 * 1024 + 21
RESNET101 = 44_549_160 - (2048 * 1000 + 1000)  # torchvision's documented number, less the fully connected layer
MOBILENET_V2 = 3_504_872 - (1280 * 1000 + 1000) - (320 * 1280 + 2 * 1280)  # likewise, and less the last 1 x 1


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("deeplab_vgg16_largefov", VGG16_CONVOLUTIONS + FC6 + FC7 + FC8),  # 20 505 429
        ("deeplab_vgg16_aspp", VGG16_CONVOLUTIONS + 4 * (FC6 + FC7 + FC8)),  # 37 877 652
        ("deeplab_resnet101", RESNET101 + 4 * (9 * 2048 * 21 + 21)),  # 44 048 532
        ("deeplab_mobilenet_v2", MOBILENET_V2 + 4 * (9 * 320 * 21 + 21)),  # 2 053 716
    ],
)
def test_parameters_by_hand(name, parameters):
    cost = network_cost(NetworkSettings(name=name), CamSettings(), 21)
    assert cost.parameters == parameters


def test_multiply_accumulates_by_hand():
    # 33 x 33 pixels are 17 x 17, 9 x 9 and 5 x 5 cells behind the first three poolings. VGG-16 has per cell of a grid
    # 9 x (channels in x channels out) of each convolution, then fc6, fc7 and fc8.
    full, half, quarter = 9 * (3 * 64 + 64 * 64), 9 * (64 * 128 + 128 * 128), 9 * (128 * 256 + 2 * 256 * 256)
    eighth = 9 * (256 * 512 + 5 * 512 * 512) + 9 * 512 * 1024 + 1024 * 1024 + 1024 * 21
    cost = network_cost(NetworkSettings(name="deeplab_vgg16_largefov", input_size=(33, 33)), CamSettings(), 21)
    assert cost.multiply_accumulates == 33**2 * full + 17**2 * half + 9**2 * quarter + 5**2 * eighth


def test_a_finer_grid_costs_more_and_has_the_same_parameters():
    costs = [network_cost(NetworkSettings(output_stride=stride), CamSettings(), 11) for stride in (16, 8)]
    assert costs[0].parameters == costs[1].parameters
    assert costs[0].multiply_accumulates < costs[1].multiply_accumulates


def test_the_command_has_a_line_for_each_network():
    arguments = ["networks", "streets", "--set", "network.name=deeplab_resnet101", "--set", "network.output_stride=16"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    heading, *lines = result.stdout.splitlines()
    assert heading.startswith("19 classes, 192 x 384")
    assert [line.split()[0] for line in lines] == list(NETWORKS)
    assert lines[-1].split()[-4:] == ["16", "2,", "4,", "6"]
    report = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert report["classes"] == 19 and report["input_size"] == [192, 384]
    assert [row["output_stride"] for row in report["networks"]] == [16, 16, 8, 8, 16]
    assert all(row["parameters"] > 0 and row["multiply_accumulates"] > 0 for row in report["networks"])
