"""The segmentation networks: DeepLab, that is a dilated classifier under parallel dilated branches.

A network maps normalised frames to logits on a coarse grid of cells, one every `output_stride` pixels. `resize_logits`
is the only way from there to pixels: the trainer's loss, `prediction` and the exported graph all go through it.
`build_network` makes the one that the settings name.
"""

from training.segmentation.networks.base import DeepLab, ParameterGroup
from training.segmentation.networks.mobilenet_v2 import DeepLabMobileNetV2, DeepLabMobileNetV2Skip
from training.segmentation.networks.registry import NETWORKS, build_network
from training.segmentation.networks.resize import resize_logits
from training.segmentation.networks.resnet101 import DeepLabResNet101
from training.segmentation.networks.vgg16 import DeepLabVGG16, DeepLabVGG16LargeFOV

__all__ = [
    "NETWORKS",
    "DeepLab",
    "DeepLabMobileNetV2",
    "DeepLabMobileNetV2Skip",
    "DeepLabResNet101",
    "DeepLabVGG16",
    "DeepLabVGG16LargeFOV",
    "ParameterGroup",
    "build_network",
    "resize_logits",
]
