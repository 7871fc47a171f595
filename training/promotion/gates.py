"""What a candidate must pass before it takes the champion's place: each gate one figure, its limit, and a sentence.

The file is looked at first; a file that does not load, or computes nothing, is judged no further. What follows needs
frames: with labels they say whether the candidate is as good as the champion, without labels only whether it does
much the same, and the report says that no truth was seen.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from serving.errors import InputError
from serving.model import Model
from serving.settings import EngineSettings
from training.annotations.pixels import load_pixels
from training.datasets import Dataset, evenly_spaced, open_dataset, taxonomy_of
from training.promotion import comparison, file_checks
from training.promotion.gate import Gate
from training.promotion.registry import Downloaded
from training.settings import Settings

GATES_TAG, AGAINST_TAG, GATE_TAGS = "onepixel.gates", "onepixel.gates_against", "onepixel.gate."
PASSED, FAILED = "passed", "failed"


@dataclass(frozen=True)
class GateReport:
    """What all gates said of a candidate."""

    version: str
    """The candidate."""
    against: str
    """The champion that it was compared with; empty where there is none."""
    truth_seen: bool
    """Whether there were labelled frames to judge it by."""
    gates: tuple[Gate, ...]
    """By the order in which they were asked."""

    @property
    def passed(self) -> bool:
        """Whether no gate failed."""
        return all(gate.passed is not False for gate in self.gates)

    def tags(self) -> dict[str, str]:
        """Return what is recorded on the version, the verdict last."""
        verdicts = {f"{GATE_TAGS}{gate.name}": json.dumps(asdict(gate)) for gate in self.gates}
        return verdicts | {AGAINST_TAG: self.against, GATES_TAG: PASSED if self.passed else FAILED}

    def as_json(self) -> dict[str, Any]:
        """Return the report as a command prints it."""
        return {
            "candidate": self.version,
            "champion": self.against or None,
            "passed": self.passed,
            "truth_seen": self.truth_seen,
            "gates": [asdict(gate) for gate in self.gates],
        }

    def as_lines(self) -> list[str]:
        """Lay the report out for a person."""
        words = {True: "passed", False: "FAILED", None: "-"}
        lines = [f"{gate.name:<17} {words[gate.passed]:<7} {gate.message}" for gate in self.gates]
        verdict = f"version {self.version} {'passed' if self.passed else 'refused'}"
        if not self.against:
            return [*lines, f"{verdict}; no other champion to compare with: its own gates alone decided"]
        seen = "labelled frames judged it" if self.truth_seen else "no truth was seen: agreement is not accuracy"
        return [*lines, f"{verdict}; against version {self.against}; {seen}"]


def run_gates(
    candidate: Downloaded, champion: Downloaded | None, settings: Settings, has_run: Callable[[str], bool]
) -> GateReport:
    """Ask all gates about a candidate.

    Parameters
    ----------
    candidate, champion
        Their files; no champion means that the candidate would be the first.
    settings
        `promotion` has the limits, `dataset` the frames, `pixels` the annotated pixels.
    has_run
        Says whether MLflow knows a run.

    Raises
    ------
    InputError
        If the gate's frames cannot be read, or the champion's file; the frames are those of the evaluation split, or
        of other classes than the champion's.
    """
    split = settings.promotion.gate_split or settings.dataset.train
    if split == settings.dataset.evaluation:
        raise InputError(f"promotion.gate_split: '{split}' is the evaluation split, which is for reporting")
    frames = open_dataset(settings.dataset.model_copy(update={"extra": None}), split)
    gates = tuple(_ask(candidate, champion, settings, frames, has_run))
    return GateReport(candidate.version.version, champion.version.version if champion else "", frames.has_labels, gates)


def _ask(
    candidate: Downloaded,
    champion: Downloaded | None,
    settings: Settings,
    frames: Dataset,
    has_run: Callable[[str], bool],
) -> Iterator[Gate]:
    limits = settings.promotion
    # One thread: what is measured is the network, not what else the machine does.
    engine = EngineSettings(threads=1)
    loads, model = file_checks.loads(candidate, engine)
    yield loads
    if model is None:
        return
    finite = file_checks.finite(candidate.model)
    yield finite
    if not finite.passed:
        return
    other = None
    if champion is not None:
        other = Model.load(champion.model, settings=engine)
        _check_taxonomy(frames, other, champion)
    yield file_checks.classes(model, taxonomy_of(settings.dataset), other)
    yield file_checks.golden(candidate, model)
    yield file_checks.provenance(model, has_run(model.metadata.mlflow_run_id))
    yield file_checks.size(candidate.model, limits.most_size_mib)
    frame_ids = evenly_spaced(frames.frame_ids, limits.gate_frames)
    yield file_checks.parity(candidate, model, [frames.frame(frame_id) for frame_id in frame_ids[: file_checks.PARITY]])
    if other is None:
        yield Gate("champion", None, None, None, "there is no other champion to compare with")
        return
    same = [info.name for info in model.metadata.classes] == [info.name for info in other.metadata.classes]
    if same:
        yield from _compare(model, other, settings, frames, frame_ids)
    yield comparison.latency(model, other, limits.most_latency_ratio)
    if limits.shadow_frames and champion is not None:
        yield comparison.shadow(candidate.version.tags, champion.version.version, limits)


def _check_taxonomy(frames: Dataset, champion: Model, downloaded: Downloaded) -> None:
    have, want = [info.name for info in champion.metadata.classes], list(frames.taxonomy.names)
    if have != want:
        raise InputError(
            f"the gate frames have the classes {', '.join(want)}; the champion, {downloaded.version.name} version "
            f"{downloaded.version.version}, answers {', '.join(have)}: give the configuration of its data set"
        )


def _compare(
    model: Model, other: Model, settings: Settings, frames: Dataset, frame_ids: Sequence[str]
) -> Iterator[Gate]:
    limits = settings.promotion
    if frames.has_labels:
        yield from comparison.accuracy(model, other, frames, frame_ids, limits)
        return
    pixels = load_pixels(settings.pixels, frames.taxonomy, settings.dataset.name)
    annotated = open_dataset(settings.dataset, settings.dataset.train)
    yield comparison.annotated_pixels(model, other, annotated, pixels)
    yield from comparison.agreement(model, other, frames, frame_ids, limits)
