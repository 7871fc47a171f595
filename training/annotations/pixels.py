"""The pixel file: all the annotation there is.

A YAML file:

    dataset: camvid
    pixels:
      Sky: {image: 0016E5_01110, x: 255, y: 40}
      ...

with the configured data set's name (`dataset.name`, so `folder` for a folder of yours) and each of its classes exactly
once. x counts columns from the left, y rows from the top, both from 0.
"""

import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.configuration import did_you_mean, parse, read_text
from serving.errors import InputError
from training.datasets import Dataset, open_dataset
from training.settings import Settings
from training.taxonomy import IGNORED, Taxonomy

_FORM = "a class stands below `pixels:`, such as `Sky: {image: 0016E5_01110, x: 255, y: 40}`"


class Pixel(BaseModel):
    """One annotated pixel."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    image: str
    """Identifier of the frame."""
    x: Annotated[int, Field(ge=0)]
    """Column, from the left, from 0."""
    y: Annotated[int, Field(ge=0)]
    """Row, from the top, from 0."""


class PixelFile(BaseModel):
    """The annotated pixel of every class."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dataset: str
    """Name of the data set."""
    pixels: dict[str, Pixel]
    """Class name to its one pixel."""

    @property
    def frame_ids(self) -> list[str]:
        """The annotated frames, each once, in the file's order."""
        return list(dict.fromkeys(pixel.image for pixel in self.pixels.values()))

    def digest(self) -> str:
        """Return the sha256, hexadecimal, of the content: of what is annotated, not of the file's layout or order."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()


def load_pixels(source: str, taxonomy: Taxonomy, dataset: str) -> PixelFile:
    """Read a pixel file and check its data set and its classes.

    Parameters
    ----------
    source
        Name of a shipped file (`camvid`, `streets`) or path of a YAML file.
    taxonomy
        The data set's classes.
    dataset
        The data set's name (`DatasetSettings.name`), which the file must give.

    Raises
    ------
    InputError
        If the file cannot be read, is malformed or of another data set, or a class is missing, unknown, or stands
        twice.
    """
    if source.endswith((".yaml", ".yml")):
        text = read_text(Path(source), "pixel file")
    else:
        shipped = files("training") / "annotations" / f"{source}.yaml"
        if not shipped.is_file():
            raise InputError(f"pixels: no shipped pixel file '{source}'; give the path of a .yaml file")
        text = shipped.read_text("utf-8")
    name = f"pixel file {source}"
    try:
        content = PixelFile.model_validate(parse(text, name))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise InputError(f"{name}: {field}: is no key here; a pixel has image, x and y") from error
        raise InputError(f"{name}: {field}: {first['msg']}, got {first['input']!r}; {_FORM}") from error
    if content.dataset != dataset:
        raise InputError(
            f"{name}: dataset: its pixels are of '{content.dataset}', the configured data set is '{dataset}'; "
            "give --set pixels=FILE, a file of that data set"
        )
    for class_name in content.pixels:
        if class_name not in taxonomy.names:
            raise InputError(
                f"{name}: '{class_name}' is no class of {taxonomy.name}{did_you_mean(class_name, taxonomy.names)}: "
                f"{', '.join(taxonomy.names)}"
            )
    missing = [class_name for class_name in taxonomy.names if class_name not in content.pixels]
    if missing:
        raise InputError(f"{name}: no pixel for {', '.join(missing)}; each class needs exactly one")
    return content


def sibling_files(source: str) -> list[str]:
    """Return the shipped pixel files of the same data set in other frames: NAME-2, NAME-3, ... of a shipped NAME."""
    shipped = [entry.name.removesuffix(".yaml") for entry in (files("training") / "annotations").iterdir()]
    return sorted(name for name in shipped if name.rpartition("-")[0] == source and name.rpartition("-")[2].isdigit())


def check_places(pixels: PixelFile, dataset: Dataset, source: str) -> None:
    """Check that the pixels lie in frames of the data set; reads no labels.

    Raises
    ------
    InputError
        If a frame is not in the data set's split, or a pixel lies outside its frame or is another class's.
    """
    places: dict[Pixel, str] = {}
    for class_name, pixel in pixels.pixels.items():
        where = f"pixel file {source}: {class_name}"
        if pixel.image not in dataset.frame_ids:
            raise InputError(
                f"{where}: no frame '{pixel.image}' in split '{dataset.split}' of {pixels.dataset}"
                f"{did_you_mean(pixel.image, dataset.frame_ids)}; it has {len(dataset)}: {dataset.frame_ids[0]} to "
                f"{dataset.frame_ids[-1]}"
            )
        height, width = dataset.frame(pixel.image).shape[:2]
        if pixel.x >= width or pixel.y >= height:
            raise InputError(
                f"{where}: x={pixel.x}, y={pixel.y} lies outside {pixel.image}, which is {width} wide and {height} high"
            )
        other = places.setdefault(pixel, class_name)
        if other != class_name:
            raise InputError(
                f"{where}: x={pixel.x}, y={pixel.y} of {pixel.image} is the pixel of {other}; each class needs its own"
            )


def check_pixel_files(settings: Settings, others: Sequence[str] = ()) -> None:
    """Check the pixel files that a command takes, before anything heavy is imported; reads no labels.

    Parameters
    ----------
    settings
        The data set and its pixel file.
    others
        Further pixel files.

    Raises
    ------
    InputError
        As of `load_pixels` and `check_places`, or if the data set's folder does not hold its layout.
    """
    # With `skip` every frame would be decoded to know which there are: those of the pixels are enough here.
    dataset = open_dataset(settings.dataset.model_copy(update={"unreadable": "stop"}), settings.dataset.train)
    for source in (settings.pixels, *others):
        check_places(load_pixels(source, dataset.taxonomy, settings.dataset.name), dataset, source)


def check_pixels(pixels: PixelFile, dataset: Dataset, source: str) -> list[str]:
    """Check the pixels against the frames they lie in.

    Returns
    -------
    list of str
        A warning for each pixel whose true label, where there is one, is another class.

    Raises
    ------
    InputError
        As `check_places`.
    """
    check_places(pixels, dataset, source)
    warnings = []
    for class_name, pixel in pixels.pixels.items() if dataset.has_labels else ():
        true_id = int(dataset.labels(pixel.image)[pixel.y, pixel.x])
        true_name = "ignored" if true_id == IGNORED else dataset.taxonomy.names[true_id]
        if true_name != class_name:
            warnings.append(
                f"pixel file {source}: {class_name}: the true label at x={pixel.x}, y={pixel.y} of {pixel.image} is "
                f"{true_name}"
            )
    return warnings
