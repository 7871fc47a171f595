"""Settings of a training run: frozen, validated, documented where they are defined, written next to what they produced.

`training.configuration` reads them from files.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
Size = tuple[Annotated[int, Field(ge=32)], Annotated[int, Field(ge=32)]]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DatasetSettings(_Frozen):
    """Where frames come from."""

    name: Literal["streets", "camvid", "cityscapes", "folder"]
    """The data set's layout."""
    root: Path | None = None
    """Its folder. `streets` needs none: it is generated."""
    train: str = "train"
    """The split whose frames get pseudo labels. Its labels are read for reporting alone."""
    evaluation: str = "val"
    """The split on which the network is reported."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Take this many frames, evenly spaced over the split, to train or, in `onepixel evaluate`, to score; None takes
    all."""
    unreadable: Literal["stop", "skip"] = "stop"
    """What an image that cannot be decoded does: `stop` ends the command with its name. `skip` leaves it out with a
    warning that names it; to that end every frame of a split is decoded once before the first is used."""
    seed: Seed = 0
    """Seed of generated frames (`streets` only); the shipped pixels are those of seed 0."""
    size: Size = (192, 384)
    """Height and width of generated frames (`streets` only), pixels."""
    frames: Annotated[int, Field(ge=1)] = 48
    """Generated training frames; evaluation has half as many (`streets` only)."""
    taxonomy: Literal["cityscapes", "camvid"] = "cityscapes"
    """The classes of the labels (`folder` only; every other data set has its own)."""

    @model_validator(mode="after")
    def _needs_root(self) -> "DatasetSettings":
        if self.name != "streets" and self.root is None:
            raise ValueError(f"data set '{self.name}' needs a folder: --set dataset.root=DIR")
        return self


class SuperpixelSettings(_Frozen):
    """How a frame is cut into superpixels."""

    method: Literal["slic", "felzenszwalb"] = "slic"
    """`slic`: compact superpixels of like size, on CIELAB (Achanta et al., 2012). `felzenszwalb`: the graph-based
    segmentation of Felzenszwalb and Huttenlocher (2004), which keeps thin objects whole."""
    count: Annotated[int, Field(ge=4)] = 600
    """Superpixels asked for, per frame (`slic` only)."""
    compactness: Annotated[float, Field(gt=0)] = 20.0
    """Weight of position against colour (`slic` only)."""
    scale: Annotated[float, Field(gt=0)] = 30.0
    """Larger makes larger superpixels (`felzenszwalb` only)."""
    sigma: Annotated[float, Field(ge=0)] = 0.6
    """Deviation of the Gaussian that smooths the frame first, pixels (`felzenszwalb` only)."""
    minimum: Annotated[int, Field(ge=1)] = 30
    """Fewest pixels of a superpixel; smaller ones are joined to a neighbour (`felzenszwalb` only)."""


class CamSettings(_Frozen):
    """The class activation network and MOSF, multi overlapping slices fusion (paper, figure 3)."""

    network: str = "mobilenet_v2"
    """Any torchvision classifier whose last layer is linear behind global average pooling."""
    weights: str | None = None
    """A safetensors file, a torchvision weights name such as IMAGENET1K_V1, or `embedded`: the small classifier of
    procedural street objects that ships with onepixel. Needed."""
    encoder: Literal["mosf", "single", "dense"] = "mosf"
    """`mosf`: overlapping slices, each seen alone. `single`: the whole frame in one pass at a slice's height (the
    paper's Single Enc.). `dense`: the whole frame in one pass at the resolution that the slices have."""
    slices: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (3, 5)
    """Slices of MOSF down and across the frame. They overlap by half: 3 x 5 of half the height and a third of the
    width."""
    slice_height: Annotated[int, Field(ge=33)] = 225
    """Height to which a slice is resized, 32 k + 1; the width follows from the frame's shape."""

    @model_validator(mode="after")
    def _fits(self) -> "CamSettings":
        if self.slice_height % 32 != 1:
            raise ValueError(f"slice_height must be 32 k + 1 (225, 353, ...), got {self.slice_height}")
        if self.weights == "embedded" and self.network != "mobilenet_v2":
            raise ValueError(
                f"network must be mobilenet_v2 with the weights 'embedded', which are one, got '{self.network}'; "
                "give weights of its own: --set cam.weights=FILE"
            )
        return self


class PassSettings(_Frozen):
    """One pass of the class activation network over the whole frame."""

    height: Annotated[int, Field(ge=33)]
    """Height to which the frame is resized, 32 k + 1; the width follows from the frame's shape."""
    layers: Annotated[tuple[str, ...], Field(min_length=1)]
    """The network's modules whose output is read, by torch's names."""
    weights: tuple[Annotated[float, Field(gt=0)], ...]
    """How loud each layer is in the embedding."""

    @model_validator(mode="after")
    def _fits(self) -> "PassSettings":
        if self.height % 32 != 1:
            raise ValueError(f"height must be 32 k + 1 (353, 705, ...), got {self.height}")
        if len(self.weights) != len(self.layers):
            raise ValueError(f"weights must be one per layer, {len(self.layers)}, got {len(self.weights)}")
        return self


class EmbeddingSettings(_Frozen):
    """The embedding of superpixels in several layers of the class activation network (`propagation` only)."""

    passes: Annotated[tuple[PassSettings, ...], Field(min_length=1)] = (
        PassSettings(height=353, layers=("features.14.conv.0", "features.17"), weights=(1.0, 1.0)),
        PassSettings(
            height=705,
            layers=("features.3", "features.6", "features.10", "features.14.conv.0", "features.17"),
            weights=(1.0, 1.0, 1.0, 1.4, 1.0),
        ),
    )
    """A coarse pass for what surrounds a region, a fine one for thin things; the layers are MobileNetV2's."""
    output_stride: Literal[16, 32] = 16
    """Input pixels per cell of the network's last layers."""
    position_weight: Annotated[float, Field(ge=0)] = 0.5
    """How loud the place in the frame is, a layer being 1."""
    layer_dimensions: Annotated[int, Field(ge=1)] = 96
    """Principal components that are kept of each layer."""
    dimensions: Annotated[int, Field(ge=1)] = 112
    """Principal components that are kept of all layers together."""
    basis_frames: Annotated[int, Field(ge=1)] = 32
    """Frames, evenly spaced over the split, from which the components are found."""


class SaliencySettings(_Frozen):
    """Saliency, by which superpixels of one frame are compared (paper, section 4.1 and eq 3)."""

    method: Literal["none", "geodesic", "drfi"] = "drfi"
    """`drfi`: the method's, a random forest over regions at several levels. `geodesic`: needs no forest. `none`: the
    context similarity is E alone."""
    forest: str = "embedded"
    """The forest (`drfi` only): an ONNX file that `onepixel saliency fit` wrote, or `embedded`: the small one, fitted
    on procedural scenes, that ships with onepixel."""

    @model_validator(mode="after")
    def _fits(self) -> "SaliencySettings":
        if self.forest != "embedded" and not self.forest.endswith(".onnx"):
            raise ValueError(f"forest must be 'embedded' or the path of an .onnx file, got '{self.forest}'")
        return self


class RepresentationSettings(_Frozen):
    """Optimal feature setting (paper, section 4.2)."""

    features: Literal["by_kind", "semantic", "imaging"] = "by_kind"
    """What describes a class: objects by semantics and scenes by colour and texture, or all classes alike (the paper's
    table 2)."""

    object_share: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Share of the annotated frame's superpixels, the most similar ones, that describe an object class."""
    scene_neighbour_threshold: Fraction = 0.5
    """Superpixels with a context similarity, eq (3), above this belong to the annotated scene."""
    scene_group_threshold: Fraction = 0.5
    """Among them, colour x texture similarity above this joins two superpixels in one group."""
    scene_groups: Annotated[int, Field(ge=1)] = 5
    """Most groups G of a scene class; the largest stay."""


class PseudoLabelSettings(_Frozen):
    """Inference and context-location refinement (paper, sections 4.3 and 4.4)."""

    preset: Literal["literal", "paper", "best"] = "best"
    """Which values all settings have that are not given: `configs/presets/<preset>.yaml`. `literal`: the paper's
    constants to the letter. `paper`: the same steps with thresholds relative to each class's scores over the data set
    and a sharpened context. `best`: propagation."""
    method: Literal["similarity", "propagation"] = "propagation"
    """`similarity`: the paper's sections 4.2 to 4.4, each frame by itself. `propagation`: a graph of the regions of all
    frames (`propagation`)."""
    thresholds: Literal["absolute", "relative"] = "relative"
    """Whether the two thresholds are of the score itself, as in the paper, or of its deviations above the class's mean
    over the data set (`similarity` only)."""
    object_threshold: float = 2.0
    """An object's refined score must reach this (`similarity` only)."""
    scene_threshold: float = -1.0
    """Likewise a scene's (`similarity` only)."""
    context: bool = True
    """Whether eq (4) refines the scores of the initial labels by the context (`similarity` only)."""
    location: bool = True
    """Whether the bands say where a class may stand."""
    edge_scale: Annotated[float, Field(gt=0)] | None = 0.1
    """Sharpens the context: E(i, j) becomes exp(-(1 - E) / edge_scale). None takes E as it is."""


class PropagationSettings(_Frozen):
    """Labels spread over a graph of the regions of all frames (`pseudo_labels.method: propagation` only)."""

    graph_frames: Annotated[int, Field(ge=1)] = 500
    """Most frames in the graph, evenly spaced over the split, the annotated ones always; the others are attached to it,
    so that time grows linearly with the frames and memory stays."""
    neighbours: Annotated[int, Field(ge=1)] = 24
    """Most similar regions to which each region is joined."""
    probes: Annotated[int, Field(ge=1)] = 16
    """Cells of the neighbour index that are searched; more find truer neighbours and take longer."""
    similarity_power: Annotated[float, Field(gt=0)] = 3.0
    """Exponent of the cosine similarity of two regions."""
    contour_weight: Annotated[float, Field(ge=0)] = 0.3
    """Weight of an edge between two regions that touch with no contour between them."""
    contour_scale: Annotated[float, Field(gt=0)] = 0.1
    """Edge strength at which that weight has fallen to 1/e."""
    object_margin: Annotated[float, Field(ge=0)] = 0.4
    """By how much an object's score must stand above every scene's, in deviations of all scores: objects cover few
    pixels of a driving scene (paper, section 4.4), and their one pixel would claim as many regions as a scene's."""
    most_object_area: Annotated[float, Field(gt=0, lt=1)] | None = None
    """A coarse prior of class shares: no object class may take more than this share of the area of the graph's frames.
    None gives none."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """Residual, relative to the first, at which the scores stand."""
    most_iterations: Annotated[int, Field(ge=1)] = 200
    """Conjugate gradient steps at most."""


NetworkName = Literal["deeplab_mobilenet_v2", "deeplab_vgg16_largefov", "deeplab_vgg16_aspp", "deeplab_resnet101"]
"""The networks that `segmentation.networks` has."""


class NetworkSettings(_Frozen):
    """The segmentation network, a DeepLab."""

    name: NetworkName = "deeplab_mobilenet_v2"
    """MobileNetV2 is for CPUs and the edge. The others are those of DeepLab-v2 (Chen et al., 2017); the paper takes
    VGG-16."""
    weights: str | None = None
    """What it starts from: a safetensors file of torchvision's mobilenet_v2, vgg16 or resnet101, or a torchvision
    weights name such as IMAGENET1K_V1. None takes `cam.weights`, where `cam.network` is the same."""
    output_stride: Literal[8, 16] = Field(
        default_factory=lambda given: 16 if given.get("name") == "deeplab_mobilenet_v2" else 8
    )
    """Input pixels per cell of the feature map; as published by default, 8, and 16 with MobileNetV2."""
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


class IterationSettings(_Frozen):
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
    warm_start: bool = True
    """Whether a later round trains on from the network of the one before, or from the first weights."""


class TrainerSettings(_Frozen):
    """One round's training."""

    updates: Annotated[int, Field(ge=1)] = 300
    """Optimiser steps in a round."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Crops in a step, over all processes."""
    passes: Annotated[int, Field(ge=1)] = 1
    """Parts into which a process splits its share of the batch, to hold fewer crops in memory; the gradients add up to
    the same step."""
    crop: Size = (225, 225)
    """Height and width of a crop, pixels."""
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
    """Range of the random scale, from low to high."""
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


class PredictionSettings(_Frozen):
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
    """How far a tile sees beyond the part that it answers for, on each side, pixels of the frame."""


class TrackingSettings(_Frozen):
    """MLflow."""

    uri: str | None = None
    """Tracking URI; None takes MLFLOW_TRACKING_URI, or else `mlflow.db` (SQLite) in the run's own folder."""
    experiment: str = "onepixel"
    """Name of the experiment."""


class Settings(_Frozen):
    """Everything that a run depends on."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the model that comes out, and of its folder."""
    seed: Seed = 0
    """Seed of every random choice in training; generated frames have their own, `dataset.seed`."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Processes for the per-frame stages; None takes one per core, 1 starts none."""
    pixels: str
    """The annotated pixels: a shipped file's name, or the path of a YAML file."""
    dataset: DatasetSettings
    superpixels: SuperpixelSettings = SuperpixelSettings()
    cam: CamSettings = CamSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    saliency: SaliencySettings = SaliencySettings()
    representation: RepresentationSettings = RepresentationSettings()
    pseudo_labels: PseudoLabelSettings = PseudoLabelSettings()
    propagation: PropagationSettings = PropagationSettings()
    network: NetworkSettings = NetworkSettings()
    training: TrainerSettings = TrainerSettings()
    iterations: IterationSettings = IterationSettings()
    prediction: PredictionSettings = PredictionSettings()
    tracking: TrackingSettings = TrackingSettings()

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if self.iterations.loop == "best" and self.pseudo_labels.method != "propagation":
            raise ValueError(
                "iterations.loop 'best' needs a graph's scores, pseudo_labels.method is "
                f"'{self.pseudo_labels.method}'; give iterations.loop=paper"
            )
        if self.training.soft_labels and self.pseudo_labels.method != "propagation":
            raise ValueError(
                "training.soft_labels needs scores that compare all classes, pseudo_labels.method is "
                f"'{self.pseudo_labels.method}', which asks objects before scenes; give training.soft_labels=0"
            )
        return self
