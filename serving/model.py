"""One loaded, verified, warmed-up ONNX model: the only way from a frame to a mask.

Evaluation calls `Model.segment`; the server calls the same three steps (`resize_frame`, `Model.infer`,
`resize_mask`) with its queue around the middle one, so that both get the same masks.
"""

import hashlib
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnxruntime

from serving.engines import Engine, open_engine
from serving.errors import InputError
from serving.frames import Pixels, resize_frame, resize_mask
from serving.metadata import ModelMetadata
from serving.settings import EngineSettings


@dataclass(frozen=True, eq=False)
class Model:
    """A model that is ready to answer. Made by `Model.load`; safe to use from several threads."""

    name: str
    """What requests call it."""
    version: str
    """Its version among those of the name."""
    digest: str
    """sha256 of the file's bytes, in hexadecimal."""
    metadata: ModelMetadata
    """What the file says of itself."""
    properties: dict[str, str]
    """The file's `metadata_props`, verbatim."""
    engine: Engine = field(repr=False)
    """What runs it."""
    seconds: float = 0.0
    """What one inference took when it was warmed up."""

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        name: str | None = None,
        version: str | None = None,
        settings: EngineSettings | None = None,
    ) -> "Model":
        """Read, verify and warm up a model.

        Parameters
        ----------
        path
            The ONNX file. The bytes that are read are those that are hashed and served.
        name, version
            What requests call it. None means from the path: `<name>/<version>/model.onnx` as in `model_store/`, else
            the file's stem and "1".
        settings
            What runs it, and how.

        Raises
        ------
        InputError
            If the file cannot be read, is not an ONNX file that `onepixel export` wrote, does not keep the contract
            of inputs and outputs, or if the engine or the device is not there.
        """
        path = Path(path)
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give the .onnx file, such as NAME/VERSION/model.onnx in it")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        path_name, path_version = name_and_version(path)
        description = _describe(content, path)
        properties = dict(description.get_modelmeta().custom_metadata_map)
        metadata = ModelMetadata.from_properties(properties, str(path))
        _check_contract(description, metadata, path)
        del description  # its copy of the weights
        model = cls(
            name=name or path_name,
            version=version or path_version,
            digest=hashlib.sha256(content).hexdigest(),
            metadata=metadata,
            properties=properties,
            engine=open_engine(content, str(path), metadata.input_size, settings or EngineSettings()),
        )
        return replace(model, seconds=model._warm_up(path))

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the frames that `infer` takes, pixels."""
        return self.metadata.input_size

    def infer(self, frames: Pixels) -> tuple[Pixels, Pixels]:
        """Run the network.

        Parameters
        ----------
        frames
            uint8 [N, H, W, 3] RGB, with (H, W) = `input_size`.

        Returns
        -------
        `class_ids` and `confidence` (255 x the winning probability), both uint8 [N, H, W].

        Raises
        ------
        InputError
            If `frames` is of another shape or dtype.
        """
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (*self.input_size, 3):
            height, width = self.input_size
            raise InputError(
                f"frames: {frames.dtype} {list(frames.shape)}; the model '{self.name}' takes uint8 "
                f"[N, {height}, {width}, 3]"
            )
        return self.engine.infer(frames)

    def segment(self, frame: Pixels) -> tuple[Pixels, Pixels]:
        """Segment a frame of any size: resize it to the input, run the network, resize the masks back.

        Parameters
        ----------
        frame
            uint8 [H, W, 3] RGB.

        Returns
        -------
        `mask` (class ids) and `confidence` (255 x the winning probability), both uint8 [H, W].

        Raises
        ------
        InputError
            If `frame` is of another shape or dtype.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise InputError(f"frame: {frame.dtype} {list(frame.shape)}; should be uint8 [H, W, 3]")
        height, width = frame.shape[:2]
        class_ids, confidence = self.infer(resize_frame(frame, *self.input_size)[None])
        return resize_mask(class_ids[0], height, width), resize_mask(confidence[0], height, width)

    def _warm_up(self, path: Path) -> float:
        """Run it on a black frame, and return the seconds that this took."""
        # Twice: the first run plans the memory, the second takes the planned way.
        frames = np.zeros((1, *self.input_size, 3), np.uint8)
        try:
            for _ in range(2):
                began = time.monotonic()
                class_ids, confidence = self.infer(frames)
                seconds = time.monotonic() - began
        except Exception as error:
            raise InputError(f"{path}: the model fails on a black frame: {error}") from error
        for name, output in (("class_ids", class_ids), ("confidence", confidence)):
            if output.shape != frames.shape[:3]:
                raise InputError(f"{path}: output '{name}' is {list(output.shape)}, should be {list(frames.shape[:3])}")
        if int(class_ids.max()) >= len(self.metadata.classes):
            raise InputError(
                f"{path}: class_ids holds {class_ids.max()}, the metadata names {len(self.metadata.classes)} classes"
            )
        return seconds


def name_and_version(path: Path) -> tuple[str, str]:
    """Return what a file's place says: `<name>/<version>/model.onnx` as in `model_store/`, else its stem and "1"."""
    folder = path.absolute().parent  # not resolved: a link has the name of its place
    if path.name == "model.onnx" and folder.name.isdecimal():
        return folder.parent.name, folder.name
    return path.stem, "1"


def _describe(content: bytes, path: Path) -> onnxruntime.InferenceSession:
    """Open a file for what it says of itself, whichever engine will run it; without optimising, which takes longer."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors; warnings are not the user's
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a dozen kinds, with no base class of their own
        raise InputError(f"{path}: not an ONNX file that ONNX Runtime can load: {error}") from error


def _check_contract(session: onnxruntime.InferenceSession, metadata: ModelMetadata, path: Path) -> None:
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name: node for node in session.get_outputs()}
    if list(inputs) != ["frames"]:
        raise InputError(f"{path}: inputs {list(inputs)}; should be ['frames']")
    frames = inputs["frames"]
    expected = [*metadata.input_size, 3]
    if frames.type != "tensor(uint8)" or len(frames.shape) != 4 or frames.shape[1:] != expected:
        raise InputError(
            f"{path}: input 'frames' is {frames.type} {frames.shape}; by its metadata it should be tensor(uint8) "
            f"{['N', *expected]}"
        )
    if isinstance(frames.shape[0], int):
        raise InputError(f"{path}: input 'frames' has a fixed batch of {frames.shape[0]}; should be dynamic")
    for name in ("class_ids", "confidence"):
        if name not in outputs:
            raise InputError(f"{path}: outputs {list(outputs)}; '{name}' is missing")
        if outputs[name].type != "tensor(uint8)":
            raise InputError(f"{path}: output '{name}' is {outputs[name].type}; should be tensor(uint8)")
