"""The classes of each data set, as data: name, colour, category, kind, vertical bands and width.

The kind divides classes into objects, which semantic features describe, and scenes, which colour and texture describe
(paper, section 4.2). The bands are the location prior of figure 6 (a): the frame is cut into four equal rows, 1 to 4
from the top, and a class may stand only in its own rows. A pole is known by its width, too. Class ids everywhere are
positions in `Taxonomy.classes` (Cityscapes calls them train ids); 255 is ignored.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

IGNORED = 255
BANDS = 4

Kind = Literal["object", "scene"]


@dataclass(frozen=True, kw_only=True)
class ClassInfo:
    """One class."""

    name: str
    """The data set's own name."""
    colour: tuple[int, int, int]
    """Red, green, blue, 0 to 255."""
    category: str
    """The category it counts to in the category scores."""
    kind: Kind
    """Described by semantic features (`object`) or by colour and texture (`scene`)."""
    bands: tuple[int, ...]
    """The rows, 1 (top) to 4 (bottom), where it may stand."""
    most_width: float = 1.0
    """Columns that a superpixel of it may span, as a share of the frame's."""


@dataclass(frozen=True)
class Taxonomy:
    """The classes of one data set."""

    name: str
    """Name of the data set that defines it."""
    classes: tuple[ClassInfo, ...]
    """The classes by id."""

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by id."""
        return tuple(info.name for info in self.classes)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Category names in order of first appearance."""
        return tuple(dict.fromkeys(info.category for info in self.classes))

    @cached_property
    def category_ids(self) -> NDArray[np.int64]:
        """Category of each class, int64 [C], as positions in `categories`."""
        return np.array([self.categories.index(info.category) for info in self.classes])

    @cached_property
    def palette(self) -> NDArray[np.uint8]:
        """Colour of each id, uint8 [256, 3]; ids without a class are black."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self.classes)] = [info.colour for info in self.classes]
        return palette

    @cached_property
    def allowed(self) -> NDArray[np.bool_]:
        """Where each class may stand, bool [4, C]; row 0 is the top band."""
        return np.array([[band in info.bands for info in self.classes] for band in range(1, BANDS + 1)])

    @cached_property
    def most_width(self) -> NDArray[np.float32]:
        """How wide a superpixel of each class may be, float32 [C], as a share of the frame's width."""
        return np.array([info.most_width for info in self.classes], np.float32)

    def ids_of(self, kind: Kind) -> NDArray[np.int64]:
        """Return the ids of the classes of one kind, int64, ascending."""
        return np.array([i for i, info in enumerate(self.classes) if info.kind == kind], np.int64)

    def band_prior(self) -> NDArray[np.uint8]:
        """Return the class that the bands alone would guess in each band, uint8 [4]: the floor of every report.

        In each band it is the scene that may stand in the fewest bands, the first one where several do: a scene
        because scenes cover most of a frame, the one with the fewest bands because the band says most about it.
        """
        scenes = self.ids_of("scene")
        breadth = self.allowed[:, scenes].sum(axis=0)
        return np.array(
            [scenes[np.argmin(np.where(row, breadth, BANDS + 1))] for row in self.allowed[:, scenes]], np.uint8
        )


_SKY = (1, 2)
_UPPER = (1, 2, 3)
_GROUND = (3, 4)
_OTHER = (2, 3, 4)
_THIN = 0.025


def _class(
    name: str,
    colour: tuple[int, int, int],
    category: str,
    kind: Kind,
    bands: tuple[int, ...],
    most_width: float = 1.0,
) -> ClassInfo:
    return ClassInfo(name=name, colour=colour, category=category, kind=kind, bands=bands, most_width=most_width)


CITYSCAPES = Taxonomy(
    "cityscapes",
    (
        _class("road", (128, 64, 128), "flat", "scene", _GROUND),
        _class("sidewalk", (244, 35, 232), "flat", "scene", _GROUND),
        _class("building", (70, 70, 70), "construction", "scene", _UPPER),
        _class("wall", (102, 102, 156), "construction", "scene", _OTHER),
        _class("fence", (190, 153, 153), "construction", "object", _OTHER),
        _class("pole", (153, 153, 153), "object", "object", _OTHER, _THIN),
        _class("traffic light", (250, 170, 30), "object", "object", _UPPER),
        _class("traffic sign", (220, 220, 0), "object", "object", _UPPER),
        _class("vegetation", (107, 142, 35), "nature", "scene", _UPPER),
        _class("terrain", (152, 251, 152), "nature", "scene", _OTHER),
        _class("sky", (70, 130, 180), "sky", "scene", _SKY),
        _class("person", (220, 20, 60), "human", "object", _OTHER),
        _class("rider", (255, 0, 0), "human", "object", _OTHER),
        _class("car", (0, 0, 142), "vehicle", "object", _OTHER),
        _class("truck", (0, 0, 70), "vehicle", "object", _OTHER),
        _class("bus", (0, 60, 100), "vehicle", "object", _OTHER),
        _class("train", (0, 80, 100), "vehicle", "object", _OTHER),
        _class("motorcycle", (0, 0, 230), "vehicle", "object", _OTHER),
        _class("bicycle", (119, 11, 32), "vehicle", "object", _OTHER),
    ),
)
"""The 19 evaluated classes of Cityscapes and their 7 categories (cityscapesScripts, helpers/labels.py)."""

CAMVID = Taxonomy(
    "camvid",
    (
        _class("Sky", (128, 128, 128), "sky", "scene", _SKY),
        _class("Building", (128, 0, 0), "construction", "scene", _UPPER),
        _class("Pole", (192, 192, 128), "object", "object", _OTHER, _THIN),
        _class("Road", (128, 64, 128), "flat", "scene", _GROUND),
        _class("Sidewalk", (60, 40, 222), "flat", "scene", _GROUND),
        _class("Tree", (128, 128, 0), "nature", "scene", _UPPER),
        _class("SignSymbol", (192, 128, 128), "object", "object", _UPPER),
        _class("Fence", (64, 64, 128), "construction", "object", _OTHER),
        _class("Car", (64, 0, 128), "vehicle", "object", _OTHER),
        _class("Pedestrian", (64, 64, 0), "human", "object", _OTHER),
        _class("Bicyclist", (0, 128, 192), "vehicle", "object", _OTHER),
    ),
)
"""SegNet's 11-class version of CamVid, its colours, and 7 categories of the same names as Cityscapes'."""
