"""Settings of the networks: which one, how it is trained, over which rounds, and how it predicts."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from training.settings.base import Fraction, Frozen, Size

NetworkName = Literal[
    "deeplab_mobilenet_v2",
    "deeplab_mobilenet_v2_skip",
    "deeplab_vgg16_largefov",
    "deeplab_vgg16_aspp",
    "deeplab_resnet101",
]
"""The networks that `segmentation.networks` has."""


class NetworkSettings(Frozen):
    """The segmentation network, a DeepLab."""

    name: NetworkName = "deeplab_mobilenet_v2"
    """MobileNetV2 is for CPUs and the edge; `_skip` adds the logits of finer features, for small things and edges. The
    others are those of DeepLab-v2 (Chen et al., 2017); the paper takes VGG-16."""
    weights: str | None = None
    """What it starts from: a safetensors file of torchvision's mobilenet_v2, vgg16 or resnet101, or a torchvision
    weights name such as IMAGENET1K_V1. None takes `cam.weights`, where `cam.network` is the same."""
    output_stride: Literal[8, 16] = Field(
        default_factory=lambda given: 16 if "mobilenet" in given.get("name", "") else 8
    )
    """Input pixels per cell of the deepest features; as published by default, 8, and 16 with MobileNetV2."""
    aspp_rates: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = Field(
        default_factory=lambda given: (12,) if given.get("name") == "deeplab_vgg16_largefov" else (6, 12, 18, 24)
    )
    """Dilations of the parallel branches, in cells; as published by default, 6, 12, 18, 24. LargeFOV has one, 12."""
    input_size: Size = (360, 480)
    """Height and width of the exported network's input, pixels."""

    @model_validator(mode="after")
    def _one_branch(self) -> "NetworkSettings":
        if self.name == "deeplab_vgg16_largefov" and len(self.aspp_rates) != 1:
            raise ValueError(
                f"deeplab_vgg16_largefov has one rate, got aspp_rates {list(self.aspp_rates)}; "
                "--set network.aspp_rates=[12], or take deeplab_vgg16_aspp"
            )
        return self


class IterationSettings(Frozen):
    """The alternation of labelling and training (paper, section 5)."""

    rounds: Annotated[int, Field(ge=1)] = 2
    """Trainings in all: the first one on the pixels' pseudo labels, then the iterations."""
    loop: Literal["paper", "best"] = "best"
    """Where the labels of a later round come from. `paper`: from the network's prediction alone, by eq (6). `best`:
    from the graph's scores of the annotated pixels, to which the prediction is added (`propagation` only)."""
    prediction_weight: Annotated[float, Field(gt=0)] = 0.05
    """What the logarithm of a class's mean probability in a superpixel weighs beside the graph's score, which is in
    deviations of all scores (`best` only)."""
    refine: bool = True
    """Whether the context and the bands refine eq (6) (`paper` only; without it, the paper's "without refinement")."""
    threshold: Fraction = 0.5
    """A superpixel whose refined share, eq (6), is below this is ignored (`paper` only)."""
    start: Path | None = None
    """The network.safetensors of an earlier run, from which the first round trains on, and whose predictions help to
    label it as a later round's do; None starts from the pixels and the first weights alone."""
    warm_start: bool = True
    """Whether a later round trains on from the network of the one before, or from the first weights."""


class TrainerSettings(Frozen):
    """One round's training."""

    updates: Annotated[int, Field(ge=1)] = 300
    """Optimiser steps in a round."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Crops in a step, over all processes."""
    passes: Annotated[int, Field(ge=1)] = 1
    """Parts into which a process splits its share of the batch, to hold fewer crops in memory; the gradients add up to
    the same step."""
    crop: Size = (225, 225)
    """Height and width of a crop, pixels of the scaled frame."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """`adamw`: Loshchilov and Hutter (2019). `sgd`: DeepLab's, stochastic gradient descent with momentum 0.9."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """At the first step. Each network multiplies it by part: MobileNetV2 has 0.3 of it in the backbone and all
    of it in the head; the others have it in the backbone and ten times of it in the class layers, as published."""
    power: Annotated[float, Field(ge=0)] = 0.9
    """Exponent of the poly schedule."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0001
    """Of the convolutions' weights; biases and batch normalisation have none."""
    scales: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.75, 1.5)
    """Range of the random scale, from low to high; 1 is the network's input size, as the exported file sees a frame."""
    class_balance: Annotated[float, Field(ge=0, le=1)] = 0.0
    """A class's pixels weigh its frequency in the labels to the power -class_balance; 0 weighs all alike."""
    class_mix: Fraction = 0.0
    """Share of crops onto which half of the classes of another crop are pasted (ClassMix, Olsson et al., WACV 2021)."""
    confidence_weights: bool = False
    """Whether a pixel weighs what its pseudo label is sure of, in [0, 1]."""
    soft_labels: Annotated[float, Field(ge=0)] = 0.0
    """Temperature of the softmax that makes a superpixel's scores the class distribution on which its pixels are
    trained; 0 trains on the likeliest class alone (`propagation` only)."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the exponential moving average of the weights that comes out; 0 takes the last weights."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the passes; the weights stay fp32. `auto`: bf16 on a GPU that computes in it, else fp32."""
    channels_last: bool = False
    """Whether images and weights lie in memory channel by channel for each pixel, which some GPUs prefer."""
    compile: bool = False
    """Whether torch.compile translates the network first."""
    batch_norm: Literal["frozen", "recalibrated"] = "frozen"
    """`frozen` keeps the statistics of the given weights; `recalibrated` measures them on training crops first."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 50
    """Updates between two checkpoints."""

    @model_validator(mode="after")
    def _ordered(self) -> "TrainerSettings":
        low, high = self.scales
        if low > high:
            raise ValueError(f"scales must go from low to high, got [{low}, {high}]; give [{high}, {low}]")
        if self.class_mix and self.batch == 1:
            raise ValueError("class_mix pastes one crop on another, batch is 1; give a batch of two or more")
        return self


class PredictionSettings(Frozen):
    """How `onepixel evaluate --checkpoint` segments a frame; the exported file sees it once, at the input size."""

    resolution: Literal["input", "frame"] = "input"
    """What scale 1 is: the network's input size, or the frame's own."""
    scales: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (1.0,)
    """The frame is seen at each of these scales; the probabilities are averaged at the frame's resolution."""
    flip: bool = False
    """Whether each scale also sees the frame's mirror image."""
    tile_pixels: Annotated[int, Field(ge=1)] = 2**21
    """Most pixels seen at once, at the frame's resolution and at the largest scale; a frame that has more is cut into
    tiles. The default is 1024 x 2048."""
    tile_overlap: Annotated[int, Field(ge=0)] = 128
    """How far a tile sees beyond the part that it answers for, on each side, pixels of the frame. A network sees
    further, so that some pixels are answered otherwise than in the whole frame: of two of CamVid's frames, enlarged
    threefold and cut to 800 x 800 pixels, 6 to 14 %, with twice the overlap 4 to 11 % (throw-away code)."""
