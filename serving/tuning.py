"""Which engine and precision is the fastest here, among those whose masks stay what they were.

Whatever the host offers is run on the same frames, in turns, so that what else the machine does meets all alike. The
masks are compared with those of the file in ONNX Runtime on the CPU: the share of equal pixels must reach the gate of
the precision. Of those that are as fast as each other the plainest is taken.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from serving.configuration import parse, read_text, validate
from serving.errors import InputError
from serving.files import whole_file
from serving.frames import Pixels, decode_image, resize_frame
from serving.model import Model
from serving.quantisation import quantise
from serving.segment_files import IMAGE_SUFFIXES
from serving.settings import EngineSettings, ServerSettings

GATES: Mapping[str, float] = {"fp32": 0.9999, "tf32": 0.995, "fp16": 0.995, "bf16": 0.995, "int8": 0.99}
"""The least share of pixels whose class is the reference's, by precision."""
ROUNDS = 9
"""How many turns each candidate has."""
TURN = 0.25
"""Seconds of a turn; it is one inference at least."""
AS_FAST = 0.03
"""Share of the fastest one's time by which another may take longer and still count as fast."""

INT8_SUFFIX = ".int8.onnx"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured of a candidate, or why nothing was."""

    candidate: str
    """Such as `openvino bf16`."""
    missing: str | None
    """Why the host does not offer it; None where it does, and the figures are there."""
    milliseconds: float | None
    """Median time of a frame."""
    cpu_milliseconds: float | None
    """Median processor time of a frame, of all threads together."""
    agreement: float | None
    """Share of the compared frames' pixels whose class is the reference's."""
    gate: float
    """The least agreement."""
    passes: bool
    """Whether the agreement reaches it."""
    chosen: bool
    """Whether it is the plainest of the fastest that pass."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is best here, and what it was compared with."""

    results: tuple[Result, ...]
    """All candidates, the plainest first."""
    engine: EngineSettings
    """The settings of the chosen one."""
    model: Path | None
    """The file that it runs: the one given, or the int8 one made from it; None where that was not to be kept."""
    name: str
    """What requests call the model."""
    compared_frames: int
    """Frames whose masks were compared, and on which the time was taken."""
    calibration_frames: int
    """Other frames, from which the ranges of int8 were taken."""


@dataclass(kw_only=True)
class _Candidate:
    place: str
    """What runs it, and where: a backend or a device."""
    precision: str
    settings: EngineSettings
    quantised: bool = False
    model: Model = field(init=False)
    missing: str | None = None
    agreement: float = 0.0
    wall: list[float] = field(default_factory=list)
    """Seconds of each inference."""
    cpu: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return statistics.median(self.wall)

    def compare(self, frames: Sequence[Pixels], masks: Sequence[Pixels]) -> None:
        equal = [(self.model.infer(frame[None])[0] == mask).mean() for frame, mask in zip(frames, masks, strict=True)]
        self.agreement = float(np.mean(equal))

    def take_turn(self, frames: Sequence[Pixels]) -> None:
        ends = time.perf_counter() + TURN
        while True:
            frame = frames[len(self.wall) % len(frames)]
            wall, cpu = time.perf_counter(), time.process_time()
            self.model.infer(frame[None])
            self.cpu.append(time.process_time() - cpu)
            self.wall.append(time.perf_counter() - wall)
            if time.perf_counter() >= ends:
                return

    def result(self, gate: float, chosen: bool) -> Result:
        measured = self.missing is None
        return Result(
            candidate=f"{self.place} {self.precision}" + " graphs" * self.settings.cuda_graphs,
            missing=self.missing,
            milliseconds=1e3 * self.seconds if measured else None,
            cpu_milliseconds=1e3 * statistics.median(self.cpu) if measured else None,
            agreement=self.agreement if measured else None,
            gate=gate,
            passes=measured and self.agreement >= gate,
            chosen=chosen,
        )


def read_frames(folder: Path, limit: int, input_size: tuple[int, int]) -> list[Pixels]:
    """Read images of a folder, evenly over their names, and resize them to a model's input.

    Parameters
    ----------
    folder
        Of JPEG, PNG and WEBP files.
    limit
        The most frames, at least two.
    input_size
        Height and width, pixels.

    Returns
    -------
    uint8 [H, W, 3] RGB each.

    Raises
    ------
    InputError
        If there is no such folder, fewer than two images in it, or one that cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"--frames: {folder} is no folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if len(paths) < 2:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"--frames: {folder} holds {len(paths)} images ({suffixes}); two at least are needed")
    frames = []
    for index in np.linspace(0, len(paths) - 1, min(limit, len(paths))).round().astype(int):
        try:
            frames.append(resize_frame(decode_image(paths[index].read_bytes()), *input_size))
        except OSError as error:
            raise InputError(f"--frames: {paths[index]} cannot be read: {error.strerror}") from error
        except InputError as error:
            raise InputError(f"--frames: {paths[index]}: {error}") from error
    return frames


def tune(
    path: Path,
    frames: Sequence[Pixels],
    *,
    folder: Path | None = None,
    threads: int = 0,
    gates: Mapping[str, float] = GATES,
) -> Tuning:
    """Measure what this host offers for a model.

    Parameters
    ----------
    path
        An exported file.
    frames
        uint8 [H, W, 3] of its input size, at least two. The ranges of int8 are taken from every third, the masks of
        the others are compared.
    folder
        Where `<name>.int8.onnx` is kept if it is chosen, and TensorRT's engines in any case; None means nowhere.
    threads
        CPU threads of an inference; 0 means one per physical core.
    gates
        The least agreement by precision.

    Raises
    ------
    InputError
        If ONNX Runtime cannot run the file on the CPU.
    """
    reference = Model.load(path, settings=EngineSettings(threads=threads))
    calibration, compared = frames[::3], [frame for index, frame in enumerate(frames) if index % 3]
    masks = [reference.infer(frame[None])[0] for frame in compared]
    with tempfile.TemporaryDirectory() as temporary:
        int8 = Path(temporary, "int8.onnx")
        offered = list(_candidates(reference.metadata.precision, threads, folder))
        candidates = _load(offered, path, int8, calibration)
        measured = [candidate for candidate in candidates if candidate.missing is None]
        for candidate in measured:
            candidate.compare(compared, masks)
        for candidate in tqdm(measured * ROUNDS, desc="measure", unit="turn", delay=2, disable=None):
            candidate.take_turn(compared)
        chosen = _choose(measured, gates)
        model = path.resolve() if not chosen.quantised else _keep(int8, folder, reference.name)
    return Tuning(
        results=tuple(candidate.result(gates[candidate.precision], candidate is chosen) for candidate in candidates),
        engine=chosen.settings,
        model=model,
        name=reference.name,
        compared_frames=len(compared),
        calibration_frames=len(calibration),
    )


def write_settings(tuning: Tuning, out: Path) -> None:
    """Write what was chosen as settings that `onepixel serve --settings` reads.

    Parameters
    ----------
    tuning
        What was measured, with a model that was kept.
    out
        The YAML file. The other settings of one that is there stay, its comments do not.

    Raises
    ------
    InputError
        If the file that is there holds no settings of a server.
    """
    tree: dict[str, Any] = parse(read_text(out), str(out)) if out.exists() else {}
    plain = {"backend", "device", "threads"}  # said where they are the defaults too
    engine = tuning.engine.model_dump(mode="json", include=plain | tuning.engine.model_fields_set)
    tree |= {"model": str(tuning.model), "engine": engine}
    if tuning.model and tuning.model.name.endswith(INT8_SUFFIX):
        tree.setdefault("name", tuning.name)  # else the file's own
    validate(ServerSettings, tree, str(out))
    lines = [f"# By `onepixel tune`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, on {tuning.compared_frames} frames:\n"]
    for result in tuning.results:
        if result.milliseconds is not None and result.agreement is not None:
            verdict = "chosen" if result.chosen else "passes" if result.passes else f"below {result.gate:.2%}"
            lines.append(
                f"# {result.candidate}: {result.milliseconds:.1f} ms, {result.agreement:.3%} of the pixels alike, "
                f"{verdict}\n"
            )
    with whole_file(out) as temporary:
        temporary.write_text("".join(lines) + yaml.safe_dump(tree, sort_keys=False), "utf-8")


def _candidates(precision: str, threads: int, folder: Path | None) -> Iterator[_Candidate]:
    """Yield what is to be tried with a file of a precision, the plainest first, and first of each place too."""

    def candidate(place: str, of: str = precision, *, quantised: bool = False, **settings: Any) -> _Candidate:
        return _Candidate(
            place=place,
            precision=of,
            settings=EngineSettings(threads=threads, **settings),
            quantised=quantised,
        )

    yield candidate("onnxruntime")
    yield candidate("openvino", backend="openvino")
    yield candidate("openvino", "bf16", backend="openvino", precision="bf16")
    if precision == "fp32":
        yield candidate("onnxruntime", "int8", quantised=True)
        yield candidate("openvino", "int8", quantised=True, backend="openvino")
    cache = folder and folder / "tensorrt"
    for graphs in (False, True):
        yield candidate("cuda", device="cuda", cuda_graphs=graphs)
        yield candidate("cuda", "tf32", device="cuda", cuda_graphs=graphs, precision="tf32")
        yield candidate("tensorrt", device="tensorrt", cuda_graphs=graphs, cache=cache)
        yield candidate("tensorrt", "fp16", device="tensorrt", cuda_graphs=graphs, cache=cache, precision="fp16")


def _load(offered: Sequence[_Candidate], path: Path, int8: Path, calibration: Sequence[Pixels]) -> list[_Candidate]:
    """Load what the host offers, and say of the others why not; where a place is lost, of its first one only."""
    candidates: list[_Candidate] = []
    lost = set()
    for candidate in tqdm(offered, desc="load", unit="engine", delay=2, disable=None):
        if candidate.place in lost:
            continue
        try:
            if candidate.quantised and not int8.exists():
                quantise(path, calibration, int8)
            candidate.model = Model.load(int8 if candidate.quantised else path, settings=candidate.settings)
        except InputError as error:
            candidate.missing = str(error)
            if all(other.place != candidate.place for other in candidates):
                lost.add(candidate.place)
        candidates.append(candidate)
    return candidates


def _choose(candidates: Sequence[_Candidate], gates: Mapping[str, float]) -> _Candidate:
    passing = [candidate for candidate in candidates if candidate.agreement >= gates[candidate.precision]]
    fast = (1 + AS_FAST) * min(candidate.seconds for candidate in passing)
    return next(candidate for candidate in passing if candidate.seconds <= fast)


def _keep(int8: Path, folder: Path | None, name: str) -> Path | None:
    if folder is None:
        return None
    kept = folder.resolve() / f"{name}{INT8_SUFFIX}"
    with whole_file(kept) as temporary:
        temporary.write_bytes(int8.read_bytes())
    return kept
