"""What the ONNX file says of itself: the contract between `training.export`, which writes it, and `serving.model`.

Each field is one entry of the file's `metadata_props` under the key `onepixel.<field>`, as JSON.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.errors import InputError

SCHEMA_VERSION = 1
PREFIX = "onepixel."

ClassId = Annotated[int, Field(ge=0, le=254)]
Hexadecimal = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ClassDescription(_Frozen):
    """One class of the masks."""

    id: ClassId
    """Value in the masks."""
    name: str
    """The data set's name of the class."""
    category: str
    """The category it counts to."""
    colour: tuple[int, int, int]
    """Red, green, blue for drawing, each 0 to 255."""


class DatasetDescription(_Frozen):
    """The data that a model was trained on."""

    name: str
    """The data set's name, such as `camvid`."""
    digest: Hexadecimal
    """sha256 of the manifest of training frames."""


class ModelMetadata(_Frozen):
    """Everything a server, a gate or a person must know of a model to use it."""

    schema_version: Literal[1] = 1
    """Version of this description."""
    classes: tuple[ClassDescription, ...]
    """The classes, by ascending id from 0, without gaps."""
    ignored_id: int = 255
    """The mask value that stands for no class; the network never answers it."""
    input_size: tuple[int, int]
    """Height and width of the input `frames`, pixels."""
    mlflow_run_id: str
    """The parent run that made the model."""
    dataset: DatasetDescription
    """What it was trained on."""
    pixels_digest: Hexadecimal
    """sha256 of the pixel file."""
    metrics: dict[str, float]
    """Evaluation by MLflow's keys (`val/miou_class`, ...), fractions in [0, 1]."""
    precision: Literal["fp32", "fp16", "int8"]
    """Arithmetic of the weights."""
    source_digest: Hexadecimal | None = None
    """sha256 of the file that this one was quantised from, whose metrics these are; None of an exported file."""

    def to_properties(self) -> dict[str, str]:
        """Return the ONNX `metadata_props` entries, key to JSON text."""
        fields = self.model_dump(mode="json", exclude_none=True)
        return {PREFIX + name: json.dumps(value) for name, value in fields.items()}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], source: str) -> "ModelMetadata":
        """Read the description back.

        Parameters
        ----------
        properties
            The file's `metadata_props`; keys without the prefix are other tools' and are left alone.
        source
            The file's name, for errors.

        Raises
        ------
        InputError
            Where the description is missing, unreadable, or of another schema version.
        """
        own = {key.removeprefix(PREFIX): text for key, text in properties.items() if key.startswith(PREFIX)}
        if not own:
            raise InputError(f"{source}: no '{PREFIX}*' metadata; not a file that `onepixel export` wrote")
        try:
            fields = {name: json.loads(text) for name, text in own.items()}
            metadata = cls.model_validate(fields)
        except json.JSONDecodeError as error:
            raise InputError(f"{source}: metadata is not JSON: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InputError(
                f"{source}: metadata field '{PREFIX}{field}': {first['msg']}, got {first['input']!r}"
            ) from error
        ids = [description.id for description in metadata.classes]
        if ids != list(range(len(ids))) or not ids:
            raise InputError(f"{source}: metadata field '{PREFIX}classes': ids must run 0, 1, 2, ...; got {ids}")
        return metadata
