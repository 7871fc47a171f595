"""What every registered network keeps."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from serving.errors import InputError
from serving.metadata import ClassDescription, DatasetDescription, ModelMetadata
from training.export.export import export_onnx
from training.segmentation.checkpoints import load_network, save_network
from training.segmentation.networks import NETWORKS, build_network
from training.settings.learning import NetworkSettings
from training.settings.method import CamSettings

CLASSES = 3
SIZE = (33, 47)
SIZES = [SIZE, (65, 97), (32, 32)]


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """Each network in turn, as it was published, in evaluation mode; no test changes it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = NetworkSettings(name=request.param)
        return build_network(settings, CamSettings(), CLASSES, seed=0, pretrained=False).eval()


def noise(height, width, frames=1):
    return torch.randn(frames, 3, height, width, generator=torch.Generator().manual_seed(0))


class TestNetworkContract:
    @pytest.mark.parametrize("size", SIZES)
    def test_forward_gives_a_logit_per_cell(self, network, size):
        with torch.inference_mode():
            logits = network(noise(*size))
        stride = network.output_stride
        assert logits.shape == (1, CLASSES, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
        assert logits.dtype == torch.float32 and logits.isfinite().all()

    def test_cells_are_centred_on_multiples_of_the_stride(self, network):
        # With kernels that are their own rotation, a frame upside down gives the logits upside down just where the
        # cells lie evenly about the frame's centre: of 48 k + 1 pixels, on 0, stride, 2 stride ... 48 k.
        even = copy.deepcopy(network)
        for module in even.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.data = (module.weight.data + module.weight.data.flip(2, 3)) / 2
        image = noise(49, 97)
        with torch.inference_mode():
            logits, turned = even(image), even(image.flip(2, 3))
        torch.testing.assert_close(turned.flip(2, 3), logits, rtol=1e-3, atol=1e-4 * logits.std().item())
        assert not torch.allclose(turned, logits, rtol=1e-3, atol=1e-4 * logits.std().item())

    def test_backward_reaches_every_parameter(self, network):
        trained = copy.deepcopy(network).train()
        trained(noise(*SIZE)).square().sum().backward()
        unreached = [name for name, parameter in trained.named_parameters() if parameter.grad is None]
        assert unreached == []
        assert all(parameter.grad.isfinite().all() for parameter in trained.parameters())

    def test_training_mode_leaves_batch_norm_in_evaluation_mode(self, network):
        trained = copy.deepcopy(network).train()
        assert trained.training and not any(norm.training for norm in trained.batch_norms())
        with torch.no_grad():
            trained(noise(*SIZE))
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in trained.state_dict().items())

    def test_each_parameter_is_in_one_group(self, network):
        grouped = [parameter for group in network.parameter_groups() for parameter in group.parameters]
        assert len(grouped) == len(set(map(id, grouped)))
        assert set(map(id, grouped)) == set(map(id, network.parameters()))
        for group in network.parameter_groups():
            assert group.parameters and group.rate_factor >= 0
            assert all((parameter.ndim > 1) is group.decayed for parameter in group.parameters)

    def test_save_and_load_are_bitwise(self, network, tmp_path):
        path, loaded = tmp_path / "network.safetensors", copy.deepcopy(network)
        for parameter in loaded.parameters():
            parameter.data.zero_()
        save_network(network, path)
        load_network(loaded, path)
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in loaded.state_dict().items())
        with torch.inference_mode():
            assert torch.equal(loaded(noise(*SIZE)), network(noise(*SIZE)))
        assert [file.name for file in tmp_path.iterdir()] == ["network.safetensors"]

    def test_export_answers_as_the_network(self, network, tmp_path):
        spread = copy.deepcopy(network)
        frames = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), np.uint8)
        with torch.inference_mode():
            deviation = spread(noise(*SIZE)).std().item()
        for module in class_layers(spread):  # an untrained network nearly ties all classes
            module.weight.data.div_(deviation)
        metadata = ModelMetadata(
            classes=tuple(
                ClassDescription(id=i, name=str(i), category="any", colour=(i, 0, 0)) for i in range(CLASSES)
            ),
            input_size=SIZE,
            mlflow_run_id="run",
            dataset=DatasetDescription(name="noise", digest="0" * 64),
            pixels_digest="0" * 64,
            metrics={},
            precision="fp32",
        )
        export = export_onnx(spread, metadata, tmp_path / "model.onnx", list(frames))
        assert export.agreement >= 0.9999


def class_layers(network):
    return [module for module in network.modules() if getattr(module, "out_channels", None) == CLASSES]


@pytest.mark.parametrize("name", ["deeplab_mobilenet_v2"])
def test_weights_of_another_network_are_refused(name, tmp_path):
    path, settings = tmp_path / "network.safetensors", NetworkSettings(name=name)
    networks = [build_network(settings, CamSettings(), classes, seed=0, pretrained=False) for classes in (3, 4)]
    save_network(networks[0], path)
    with pytest.raises(InputError, match=r"network\.safetensors: holds the weights of another network"):
        load_network(networks[1], path)
