import math
from abc import ABC, abstractmethod

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.models import MobileNetV2

from serving.errors import InputError
from serving.metadata import ClassDescription, DatasetDescription, ModelMetadata
from training.export import export_onnx
from training.segmentation.checkpoints import load_network, save_network
from training.segmentation.networks import DeepLab, DeepLabMobileNetV2, resize_logits


class NetworkContract(ABC):
    """What every network keeps. Each one has a test class that inherits this."""

    strides = (16,)

    @abstractmethod
    def build(self, *, classes: int = 3, output_stride: int = 16, seed: int = 0) -> DeepLab:
        """Return the smallest form of the network, the same for the same seed."""

    @pytest.mark.parametrize("size", [(64, 64), (65, 97), (50, 71), (33, 40)])
    def test_forward_gives_a_logit_per_cell(self, size):
        for stride in self.strides:
            network = self.build(classes=4, output_stride=stride)
            logits = network(torch.zeros(2, 3, *size))
            assert logits.shape == (2, 4, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
            assert logits.dtype == torch.float32

    def test_backward_reaches_every_parameter(self):
        network = self.build().train()
        generator = torch.Generator().manual_seed(0)
        network(torch.randn(1, 3, 65, 65, generator=generator)).square().sum().backward()
        unreached = [name for name, parameter in network.named_parameters() if parameter.grad is None]
        assert unreached == []
        assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())

    def test_training_mode_leaves_batch_norm_in_evaluation_mode(self):
        network = self.build().train()
        assert network.training and not any(norm.training for norm in network.batch_norms())
        before = {name: value.clone() for name, value in network.state_dict().items()}
        network(torch.ones(2, 3, 64, 64))
        assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())

    def test_seed_decides_the_weights(self):
        first, same, other = (self.build(seed=seed).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(first[name], same[name]) for name in first)
        assert any(not torch.equal(first[name], other[name]) for name in first)

    def test_save_and_load(self, tmp_path):
        path = tmp_path / "network.safetensors"
        saved, loaded = self.build(seed=1), self.build(seed=2)
        save_network(saved, path)
        load_network(loaded, path)
        image = torch.ones(1, 3, 64, 64)
        assert torch.equal(saved.eval()(image), loaded.eval()(image))
        assert [file.name for file in tmp_path.iterdir()] == ["network.safetensors"]

    def test_weights_of_another_network_are_refused(self, tmp_path):
        path = tmp_path / "network.safetensors"
        save_network(self.build(classes=3), path)
        with pytest.raises(InputError, match=r"network\.safetensors: holds the weights of another network"):
            load_network(self.build(classes=4), path)

    def test_export_answers_as_the_network(self, tmp_path):
        frames = np.random.default_rng(0).integers(0, 256, (2, 64, 80, 3), np.uint8)
        metadata = ModelMetadata(
            classes=tuple(ClassDescription(id=i, name=str(i), category="any", colour=(i, 0, 0)) for i in range(3)),
            input_size=(64, 80),
            mlflow_run_id="run",
            dataset=DatasetDescription(name="noise", digest="0" * 64),
            pixels_digest="0" * 64,
            metrics={},
            precision="fp32",
        )
        network = self.build()
        for parameter in network.head.parameters():
            parameter.data.mul_(1000)  # an untrained network ties all classes
        export = export_onnx(network, metadata, tmp_path / "model.onnx", list(frames))
        assert export.agreement >= 0.9999


class TestDeepLabMobileNetV2(NetworkContract):
    strides = (8, 16)

    def build(self, *, classes=3, output_stride=16, seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            classifier = MobileNetV2(width_mult=0.25)
        return DeepLabMobileNetV2(classifier, classes, output_stride=output_stride, aspp_rates=(1, 2), seed=seed)

    @pytest.mark.parametrize(("output_stride", "step"), [(16, 2), (8, 4)])
    def test_dilation_keeps_what_the_classifier_saw(self, output_stride, step):
        classifier = MobileNetV2(width_mult=0.25).eval()
        network = DeepLabMobileNetV2(classifier, 3, output_stride=output_stride).eval()
        image = torch.randn(1, 3, 97, 65, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            coarse, fine = classifier.features[:-1](image), network.backbone(image)
        assert coarse.shape[2:] == (4, 3)
        torch.testing.assert_close(fine[..., ::step, ::step], coarse)

    def test_classifier_stays_as_it_is(self):
        classifier = MobileNetV2(width_mult=0.25)
        DeepLabMobileNetV2(classifier, 3)
        assert [m.stride for m in classifier.modules() if isinstance(m, torch.nn.Conv2d)].count((2, 2)) == 5

    def test_head_starts_small(self):
        head = DeepLabMobileNetV2(MobileNetV2(), 11).head
        assert len(head.branches) == 4
        for branch in head.branches:
            assert branch.weight.shape == (11, 320, 3, 3)
            assert branch.weight.std().item() == pytest.approx(0.01, rel=0.02)
            assert not branch.bias.any()

    def test_unknown_stride_is_refused(self):
        with pytest.raises(ValueError, match="output_stride must be 8 or 16, got 32"):
            DeepLabMobileNetV2(MobileNetV2(width_mult=0.25), 3, output_stride=32)


def test_resize_logits_by_hand():
    # Two cells, on pixels 0 and 4; beyond the last one it repeats.
    logits = torch.tensor([[[[0.0, 8.0]]]])
    assert resize_logits(logits, 2, 8, 4).tolist() == [[[[0, 2, 4, 6, 8, 8, 8, 8]] * 2]]


def test_resize_logits_is_interpolation_with_aligned_corners_at_32k_plus_1():
    logits = torch.randn(2, 3, 3, 5, generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(logits, (33, 65), mode="bilinear", align_corners=True)
    torch.testing.assert_close(resize_logits(logits, 33, 65, 16), expected)
