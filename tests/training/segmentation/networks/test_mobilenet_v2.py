import pytest
import torch
from torchvision.models import MobileNetV2

from training.segmentation.networks import DeepLabMobileNetV2, DeepLabMobileNetV2Skip, resize_logits


def test_dilation_keeps_what_the_classifier_saw():
    classifier = MobileNetV2(width_mult=0.25).eval()
    image = torch.randn(1, 3, 97, 65, generator=torch.Generator().manual_seed(0))
    for output_stride, step in ((16, 2), (8, 4)):
        network = DeepLabMobileNetV2(classifier, 3, output_stride=output_stride).eval()
        with torch.no_grad():
            coarse, fine = classifier.features[:-1](image), network.backbone(image)
        assert coarse.shape[2:] == (4, 3)
        torch.testing.assert_close(fine[..., ::step, ::step], coarse)


def test_classifier_stays_as_it_is():
    classifier = MobileNetV2(width_mult=0.25)
    DeepLabMobileNetV2(classifier, 3)
    assert [m.stride for m in classifier.modules() if isinstance(m, torch.nn.Conv2d)].count((2, 2)) == 5


def test_seed_decides_the_heads_weights():
    classifier = MobileNetV2(width_mult=0.25)
    first, same, other = (DeepLabMobileNetV2(classifier, 3, seed=seed).head.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_head_starts_small():
    head = DeepLabMobileNetV2(MobileNetV2(), 11).head
    assert len(head.branches) == 4
    for branch in head.branches:
        assert branch.weight.shape == (11, 320, 3, 3)
        assert branch.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert not branch.bias.any()


def test_the_backbone_learns_slower_than_the_head():
    network = DeepLabMobileNetV2(MobileNetV2(width_mult=0.25), 3)
    backbone = set(map(id, network.backbone.parameters()))
    factors = [(group.rate_factor, group.decayed) for group in network.parameter_groups()]
    assert factors == [(0.3, True), (0.3, False), (1, True), (1, False)]
    for group in network.parameter_groups():
        assert all((id(parameter) in backbone) is (group.rate_factor == 0.3) for parameter in group.parameters)


def test_unknown_stride_is_refused():
    with pytest.raises(ValueError, match="output_stride must be 8 or 16, got 32"):
        DeepLabMobileNetV2(MobileNetV2(width_mult=0.25), 3, output_stride=32)


def test_the_skip_adds_the_class_layer_of_the_features_at_a_stride_of_8():
    classifier = MobileNetV2(width_mult=0.25).eval()
    image = torch.randn(1, 3, 97, 65, generator=torch.Generator().manual_seed(0))
    plain, network = DeepLabMobileNetV2(classifier, 3).eval(), DeepLabMobileNetV2Skip(classifier, 3).eval()
    assert (network.output_stride, network.coarsest_stride) == (8, 16)
    with torch.no_grad():
        fine = classifier.features[:7](image)
        coarse = resize_logits(plain(image), 13, 9, 2)
        assert fine.shape[2:] == coarse.shape[2:] == (13, 9)
        torch.testing.assert_close(network(image), coarse + network.skip(fine))
    assert network.skip.weight.std().item() == pytest.approx(0.01, rel=0.3) and not network.skip.bias.any()


def test_tiles_keep_the_coarsest_cells_of_the_skips_network_in_place():
    network = DeepLabMobileNetV2Skip(MobileNetV2(width_mult=0.25), 3).eval()
    image = torch.randn(1, 3, 97, 801, generator=torch.Generator().manual_seed(0))
    shift = network.coarsest_stride
    with torch.no_grad():
        whole, moved = network(image)[..., shift // 8 :], network(image[..., shift:])
        middle = slice(40, 60)  # farther from the edges than the pyramid sees
        torch.testing.assert_close(moved[..., middle], whole[..., middle])
