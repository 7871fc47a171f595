"""Settings of the method: what a frame's features are, and how pseudo labels follow from them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from training.settings.base import Fraction, Frozen


class SuperpixelSettings(Frozen):
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


class CamSettings(Frozen):
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


class PassSettings(Frozen):
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


class EmbeddingSettings(Frozen):
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


class SaliencySettings(Frozen):
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


class RepresentationSettings(Frozen):
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


class PseudoLabelSettings(Frozen):
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
    thin: bool = False
    """Whether a superpixel that is wider than a class may be, as a pole, is not of it. Not the paper's."""
    edge_scale: Annotated[float, Field(gt=0)] | None = 0.1
    """Sharpens the context: E(i, j) becomes exp(-(1 - E) / edge_scale). None takes E as it is."""


class PropagationSettings(Frozen):
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
