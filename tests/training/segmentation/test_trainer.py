import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import nll_loss
from torchvision.models import MobileNetV2

from serving.errors import InputError
from tests.training.processes import start
from training.segmentation.batches import Sample, SoftLabels, make_batch
from training.segmentation.networks import DeepLabMobileNetV2, resize_logits
from training.segmentation.networks.heads import FullyConnectedPyramid
from training.segmentation.prediction import predict
from training.segmentation.trainer import make_optimizer, poly_rate, recalibrate, train
from training.settings.learning import TrainerSettings

FRAME_IDS = ["a", "b", "c"]


def load(frame_id):
    """A road below a sky, a box in front; each frame has its box elsewhere."""
    labels = np.zeros((65, 65), np.uint8)
    labels[32:] = 1
    left = 8 + 16 * FRAME_IDS.index(frame_id)
    labels[24:48, left : left + 20] = 2
    colours = np.array([[90, 150, 230], [110, 100, 110], [220, 40, 30]], np.uint8)
    noise = np.random.default_rng(FRAME_IDS.index(frame_id)).integers(0, 20, (65, 65, 3), np.uint8)
    return Sample(colours[labels] + noise, labels, np.where(labels == 2, 100, 255).astype(np.uint8))


def load_soft(frame_id):
    """Each class is a superpixel, which may be another one, too."""
    sample = load(frame_id)
    distributions = np.array([[0.7, 0.2, 0.1], [0, 0.9, 0.1], [0.3, 0.1, 0.6]], np.float32)
    return sample._replace(soft=SoftLabels(sample.labels.astype(np.int32), distributions))


def labels_of(frame_id):
    return load(frame_id).labels


def make_network(*, dropout=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DeepLabMobileNetV2(MobileNetV2(width_mult=0.25), 3, aspp_rates=(1, 2))
        if dropout:
            first, second = nn.Linear(80 * 49, 64), nn.Linear(64, 64)
            network.head = FullyConnectedPyramid(first, second, channels=80, classes=3, rates=(1,), seed=0)
        return network


def make_settings(**changes):
    defaults = {"updates": 6, "batch": 2, "crop": (33, 33), "checkpoint_every": 2, "batch_norm": "recalibrated"}
    return TrainerSettings(**(defaults | changes))


def run(network, folder, load=load, *, resume=False, seed=0, frame_ids=FRAME_IDS, **changes):
    return train(
        network,
        load,
        frame_ids,
        make_settings(**changes),
        labels=labels_of,
        seed=seed,
        round_number=1,
        checkpoint=folder / "state.safetensors",
        resume=resume,
    )


class Killed(BaseException):
    pass


def killed_after(calls, load=load):
    counter = count()

    def wrapped(frame_id):
        if next(counter) >= calls:
            raise Killed
        return load(frame_id)

    return wrapped


def same_weights(first, second):
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


def test_a_network_learns_two_frames(tmp_path):
    network = make_network()
    losses = run(network, tmp_path, frame_ids=["a", "b"], updates=80, crop=(65, 65), scales=(1, 1), learning_rate=0.003)
    assert losses.shape == (80,) and losses.dtype == np.float32
    assert not network.training
    truth = [load(frame_id).labels for frame_id in ("a", "b")]
    answers = [predict(network, load(frame_id).frame, (65, 65)).class_ids for frame_id in ("a", "b")]
    assert np.mean(np.array(answers) == np.array(truth)) > 0.9


OPTIONS = {
    "average": 0.9,
    "class_mix": 0.5,
    "class_balance": 0.5,
    "confidence_weights": True,
    "soft_labels": 1.0,
    "precision": "bf16",
    "channels_last": True,
    "passes": 2,
}


FROZEN = {"batch_norm": "frozen"}
HALF = {"precision": "fp16", "optimizer": "sgd", "channels_last": False}


@pytest.mark.parametrize("options", [FROZEN, {}, OPTIONS | FROZEN, OPTIONS | FROZEN | HALF])
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, options):
    interrupted(tmp_path, make_network, load_soft if "soft_labels" in options else load, options)


def test_an_interrupted_training_with_dropout_ends_with_the_same_weights(tmp_path):
    interrupted(tmp_path, partial(make_network, dropout=True), load, FROZEN)
    network, images = make_network(dropout=True).train(), torch.zeros(1, 3, 33, 33)
    assert not torch.equal(network(images), network(images))


def interrupted(folder, make, load, options):
    whole, halved = make(), make()
    (folder / "whole").mkdir()
    (folder / "halved").mkdir()
    expected = run(whole, folder / "whole", load, **options)
    with pytest.raises(Killed):
        run(halved, folder / "halved", killed_after(11 if options else 32 + 11, load), **options)
    torch.manual_seed(123)  # a new process has another state of chance, and the initial weights again
    resumed = make()
    losses = run(resumed, folder / "halved", load, resume=True, **options)
    assert np.array_equal(losses, expected)
    assert same_weights(whole, resumed)
    states = [(folder / name / "state.safetensors").read_bytes() for name in ("whole", "halved")]
    assert states[0] == states[1]


def stuck_after(calls):
    """Frames that stop coming: whenever the kill arrives, the training is under way and not over."""
    counter = count()

    def wrapped(frame_id):
        if next(counter) >= calls:
            time.sleep(600)
        return load(frame_id)

    return wrapped


def stuck(folder):
    torch.set_num_threads(1)
    # Of 32 + 24 frames: those that measure, and two for each update.
    run(make_network(), folder, stuck_after(32 + 16), updates=12, checkpoint_every=1)


def test_a_training_that_was_killed_ends_with_the_same_weights(tmp_path):
    whole, resumed = make_network(), make_network()
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    expected = run(whole, tmp_path / "whole", updates=12, checkpoint_every=1)
    checkpoint = tmp_path / "killed" / "state.safetensors"
    process = start(stuck, tmp_path / "killed", log=tmp_path / "log")
    while not checkpoint.exists():
        assert process.is_alive(), (tmp_path / "log").read_text()
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert 0 < len(load_file(checkpoint)["losses"]) < 12
    losses = run(resumed, tmp_path / "killed", resume=True, updates=12, checkpoint_every=1)
    assert np.array_equal(losses, expected)
    assert same_weights(whole, resumed)


def test_a_finished_training_is_not_trained_again(tmp_path):
    network, again = make_network(), make_network()
    losses = run(network, tmp_path)
    resumed = run(again, tmp_path, killed_after(0), resume=True)
    assert np.array_equal(losses, resumed)
    assert same_weights(network, again)


def test_without_a_checkpoint_resume_starts_anew_and_half_a_file_is_not_read(tmp_path):
    (tmp_path / ".state.part.safetensors").write_bytes(b"half a file")
    network, expected = make_network(), make_network()
    run(network, tmp_path, resume=True)
    (tmp_path / "other").mkdir()
    run(expected, tmp_path / "other")
    assert same_weights(network, expected)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    run(make_network(), tmp_path, updates=2)
    with pytest.raises(InputError, match=r"state\.safetensors: this checkpoint is of another training"):
        run(make_network(), tmp_path, resume=True, updates=2, seed=1)


def test_a_broken_checkpoint_is_refused(tmp_path):
    (tmp_path / "state.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"state\.safetensors: cannot be read as safetensors"):
        run(make_network(), tmp_path, resume=True)


def test_a_checkpoint_holds_weights_buffers_and_losses(tmp_path):
    network = make_network()
    losses = run(network, tmp_path, updates=2)
    state = load_file(tmp_path / "state.safetensors")
    names = {name for name, _ in network.named_parameters()}
    assert {f"network.{name}" for name in network.state_dict()} | {"losses"} <= state.keys()
    for buffer in ("exp_avg", "exp_avg_sq", "step"):
        assert {f"optimizer.{buffer}.{name}" for name in names} <= state.keys()
    assert np.array_equal(state["losses"].numpy(), losses)
    assert [file.name for file in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_loss_that_is_not_finite_names_the_update_and_the_frames(tmp_path):
    with pytest.raises(InputError, match=r"the loss of update 1 is (nan|inf), on frames [abc], [abc];.*learning_rate"):
        run(make_network(), tmp_path, learning_rate=1e30)
    assert not (tmp_path / "state.safetensors").exists()


def test_frames_without_any_label_teach_nothing(tmp_path):
    def unlabelled(frame_id):
        return Sample(load(frame_id).frame, np.full((65, 65), 255, np.uint8))

    network = make_network()
    before = make_network().head.state_dict()
    losses = run(network, tmp_path, unlabelled, updates=2, weight_decay=0)
    assert losses.tolist() == [0, 0]
    assert all(torch.equal(value, before[name]) for name, value in network.head.state_dict().items())


def test_no_frames_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no frames"):
        run(make_network(), tmp_path, frame_ids=[])


def test_a_batch_in_parts_gives_the_same_step(tmp_path):
    whole, parts = make_network(), make_network()
    first = run(whole, tmp_path, updates=2, batch=4)
    second = run(parts, tmp_path, updates=2, batch=4, passes=3)
    np.testing.assert_allclose(first, second, rtol=1e-5)


def by_hand(options):
    """Two updates written out: what each option does, in torch's own words."""
    network, settings = make_network().train(), make_settings(updates=2, **FROZEN, **options)
    groups = [
        {"params": group.parameters, "weight_decay": 1e-4 if group.decayed else 0, "factor": group.rate_factor}
        for group in network.parameter_groups()
    ]
    if options.get("optimizer") == "sgd":
        optimizer = torch.optim.SGD(groups, lr=1, momentum=0.9)
    else:
        optimizer = torch.optim.AdamW(groups, lr=1)
    names = list(dict(network.named_parameters()))
    average = {name: value.detach().clone() for name, value in network.named_parameters()}
    counts = np.bincount(np.concatenate([labels_of(frame_id).ravel() for frame_id in FRAME_IDS]))
    for update, rate in ((0, 0.001), (1, 0.001 * 0.5**0.9)):
        batch = make_batch(
            load_soft if "soft_labels" in options else load, FRAME_IDS, settings, seed=0, round_number=1, update=update
        )
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * rate
        with torch.autocast("cpu", torch.bfloat16, enabled="precision" in options):
            logits = network(batch.images)
        chances = resize_logits(logits, 33, 33, 16).float().log_softmax(dim=1)
        if "soft_labels" in options:
            entropy = -(chances * batch.distributions).sum(dim=1)
        else:
            entropy = nll_loss(chances, batch.labels, ignore_index=255, reduction="none")
        weights = (batch.labels != 255).float()
        if "class_balance" in options:
            weights *= torch.from_numpy(counts**-0.5).float()[batch.labels.clamp(max=2)]
        if "confidence_weights" in options:
            weights *= batch.confidence
        optimizer.zero_grad()
        ((entropy * weights).sum() / weights.sum()).backward()
        optimizer.step()
        for name, value in network.named_parameters():  # the first update has nothing to be averaged with
            decay = 0.75 if update else 0
            average[name] = decay * average[name] + (1 - decay) * value.detach()
    final = average if "average" in options else dict(network.named_parameters())
    return torch.cat([final[name].flatten() for name in names]).detach()


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd"},
        {"average": 0.75},
        {"class_balance": 0.5},
        {"confidence_weights": True},
        {"precision": "bf16"},
        {"soft_labels": 1.0},
    ],
    ids=str,
)
def test_two_updates_are_those_that_the_options_say(tmp_path, options):
    trained, plain = make_network(), make_network()
    run(trained, tmp_path, load_soft if "soft_labels" in options else load, updates=2, **FROZEN, **options)
    run(plain, tmp_path, updates=2, **FROZEN)
    after, without = (torch.cat([value.detach().flatten() for value in n.parameters()]) for n in (trained, plain))
    torch.testing.assert_close(after, by_hand(options), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(after, without, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(without, by_hand({}), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler, and there is no g++")
def test_a_compiled_network_learns_the_same(tmp_path, monkeypatch):
    compiled, compile_it = [], torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or compile_it(module))
    plain = run(make_network(), tmp_path, updates=2)
    losses = run(network := make_network(), tmp_path, updates=2, compile=True)
    assert compiled == [network]
    np.testing.assert_allclose(losses, plain, rtol=1e-3)


WORKER = """
import importlib.util, pathlib, sys, torch
torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("test_trainer", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from training.segmentation import distributed
distributed.join()
losses = module.run(module.make_network(), pathlib.Path(sys.argv[2]), module.load_soft, **module.SHARED)
if distributed.number() == 0:
    print(" ".join(f"{loss:.6f}" for loss in losses))
"""
SHARED = {
    "batch": 4,
    "updates": 3,
    "passes": 2,
    "batch_norm": "frozen",
    "class_balance": 0.5,
    "average": 0.5,
    "soft_labels": 1.0,
}


def test_two_processes_have_the_losses_of_one(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "alone").mkdir()
    alone = make_network()
    expected = run(alone, tmp_path / "alone", load_soft, **SHARED)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*torchrun, tmp_path / "worker.py", __file__, tmp_path],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose([float(loss) for loss in result.stdout.split()], expected, rtol=1e-4)
    states = [load_file(folder / "state.safetensors") for folder in (tmp_path / "alone", tmp_path)]
    assert all(torch.allclose(value, states[1][name], atol=1e-4) for name, value in states[0].items())


def test_processes_that_do_not_divide_the_batch_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InputError, match=r"training\.batch is 4: 3 processes must have equal shares"):
        run(make_network(), tmp_path, batch=4)


def test_the_optimiser_has_the_networks_groups():
    network = make_network()
    optimizer = make_optimizer(network, make_settings(weight_decay=0.01))
    groups = network.parameter_groups()
    assert len(optimizer.param_groups) == len(groups) == 4
    for made, given in zip(optimizer.param_groups, groups, strict=True):
        assert all(one is other for one, other in zip(made["params"], given.parameters, strict=True))
        assert made["factor"] == given.rate_factor
        assert made["weight_decay"] == (0.01 if given.decayed else 0)


def test_poly_schedule():
    settings = make_settings(updates=10, learning_rate=0.1, power=0.9)
    assert poly_rate(settings, 0) == pytest.approx(0.1)
    assert poly_rate(settings, 5) == pytest.approx(0.1 * 0.5**0.9)
    assert poly_rate(settings, 9) == pytest.approx(0.1 * 0.1**0.9)


def test_recalibration_measures_the_batches():
    network = make_network()
    batches = [torch.randn(2, 3, 33, 33, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    recalibrate(network, batches)
    first = network.batch_norms()[0]
    convolution = network.backbone[0][0]
    means = [convolution(images).mean(dim=(0, 2, 3)) for images in batches]
    torch.testing.assert_close(first.running_mean, torch.stack(means).mean(dim=0))
    assert first.momentum == 0.1 and not first.training
