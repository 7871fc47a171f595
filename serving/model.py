"""One loaded, verified, warmed-up ONNX model: the only way from a frame to a mask.

Evaluation calls `Model.segment`; the server calls the same three steps (`resize_frame`, `Model.infer`,
`resize_mask`) with its queue around the middle one, so that both get the same masks.
"""

import ctypes
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime

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
    provider: str
    """The ONNX Runtime execution provider that runs it."""
    _session: onnxruntime.InferenceSession = field(repr=False)

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
            What runs it, and with how many threads.

        Raises
        ------
        InputError
            If the file cannot be read, is not an ONNX file that `onepixel export` wrote, does not keep the contract
            of inputs and outputs, or if the device is not there.
        """
        path = Path(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        path_name, path_version = name_and_version(path)
        session = _session(content, path, settings or EngineSettings())
        properties = dict(session.get_modelmeta().custom_metadata_map)
        metadata = ModelMetadata.from_properties(properties, str(path))
        _check_contract(session, metadata, path)
        model = cls(
            name=name or path_name,
            version=version or path_version,
            digest=hashlib.sha256(content).hexdigest(),
            metadata=metadata,
            properties=properties,
            provider=session.get_providers()[0],
            _session=session,
        )
        model._warm_up(path)
        return model

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
        class_ids, confidence = self._session.run(["class_ids", "confidence"], {"frames": frames})
        return class_ids, confidence

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

    def _warm_up(self, path: Path) -> None:
        # Twice: the first run plans the memory, the second takes the planned way.
        frames = np.zeros((1, *self.input_size, 3), np.uint8)
        try:
            for _ in range(2):
                class_ids, confidence = self.infer(frames)
        except Exception as error:
            raise InputError(f"{path}: the model fails on a black frame: {error}") from error
        for name, output in (("class_ids", class_ids), ("confidence", confidence)):
            if output.shape != frames.shape[:3]:
                raise InputError(f"{path}: output '{name}' is {list(output.shape)}, should be {list(frames.shape[:3])}")
        if int(class_ids.max()) >= len(self.metadata.classes):
            raise InputError(
                f"{path}: class_ids holds {class_ids.max()}, the metadata names {len(self.metadata.classes)} classes"
            )


def name_and_version(path: Path) -> tuple[str, str]:
    """Return what a file's place says: `<name>/<version>/model.onnx` as in `model_store/`, else its stem and "1"."""
    folder = path.resolve().parent
    if path.name == "model.onnx" and folder.name.isdecimal():
        return folder.parent.name, folder.name
    return path.stem, "1"


def _session(content: bytes, path: Path, settings: EngineSettings) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.log_severity_level = 3  # errors; warnings of the optimiser are not the user's
    # A spinning pool takes the cores that decode and encode the other frames: up to 1.7 x on shared cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider = "CPUExecutionProvider"
    if settings.device == "cuda":
        provider = "CUDAExecutionProvider"
        # Asked before ONNX Runtime is, which prints pages to standard error where there is no driver.
        if provider not in onnxruntime.get_available_providers() or not _has_nvidia_driver():
            raise InputError("device: 'cuda' needs an NVIDIA GPU with its driver, and the extra 'gpu'; use 'cpu'")
    try:
        session = onnxruntime.InferenceSession(content, options, providers=[provider])
    except Exception as error:  # ONNX Runtime has a dozen kinds, with no base class of their own
        raise InputError(f"{path}: not an ONNX file that ONNX Runtime can load: {error}") from error
    if session.get_providers()[0] != provider:
        raise InputError(f"device: 'cuda' did not load; ONNX Runtime fell back to {session.get_providers()[0]}")
    return session


def _has_nvidia_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


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
