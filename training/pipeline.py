"""The stages in order: bounds, features, then for each round pseudo labels, network, evaluation; at last the export.

Each stage has a folder, and a `done.json` in it once it is complete; files in it appear whole or not at all. So a
pipeline that was killed at any point resumes: complete stages are not run again, and nothing half-written is read.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from serving.errors import InputError
from serving.files import whole_file
from serving.frames import encode_png, resize_frame
from serving.metadata import DatasetDescription, ModelMetadata
from serving.triton import write_config
from training.annotations.pixels import check_pixels, load_pixels
from training.datasets import evenly_spaced, open_dataset
from training.evaluation.bounds import measure_bounds
from training.evaluation.confusion import write_confusion
from training.evaluation.evaluation import evaluate_network
from training.evaluation.figures import panel, save_png
from training.evaluation.metrics import ConfusionMatrix
from training.evaluation.score_histograms import score_histograms
from training.experiments.description import describe_run
from training.export.export import describe_classes
from training.export.precisions import CALIBRATION_FRAMES, Precision, export_precision
from training.features.cam import load_classifier
from training.features.embedding import EmbeddedRegions, LayerPasses
from training.features.extraction import extract_features
from training.features.regions import RegionFeatures
from training.features.saliency.views import open_saliency
from training.pseudo_labels.propagation import Propagation
from training.pseudo_labels.rounds import FrameLabels, labels_by_prediction, labels_by_scores, scores_with_prediction
from training.pseudo_labels.scoring import score_frames
from training.run_folder import Result, RunFolder, claimed, write_json
from training.samples import check_twin, pseudo_sample, true_sample
from training.segmentation import distributed
from training.segmentation.checkpoints import save_network
from training.segmentation.networks import DeepLab, build_network
from training.segmentation.networks.cost import network_cost
from training.segmentation.prediction import predict
from training.segmentation.trained import trained_network
from training.segmentation.trainer import train
from training.settings import Settings
from training.tracking import Tracker

FIGURES = 4
"""Frames that are drawn for each round."""
TWIN = "twin"
"""The training on true labels, and the prefix of its metrics."""
VERIFIED_FRAMES = 8
"""Frames on which the export is verified."""


class Pipeline:
    """One data set, one pixel file, one folder.

    Parameters
    ----------
    settings
        Everything that the results depend on.
    out
        The folder for all that is made.
    resume
        Go on with what an earlier run left in `out`.
    warn
        Takes warnings for a person, such as an annotated pixel that disagrees with the truth.
    twin
        Train the fully supervised twin, too: the same network on the frames with true labels, with as many updates.

    Raises
    ------
    InputError
        If `out` holds a run and `resume` is not set, or holds one with other settings; if the pixel file or the data
        set is wrong, or the twin has no labels, or would begin with another network than the rounds.
    """

    def __init__(
        self, settings: Settings, out: Path, *, resume: bool, warn: Callable[[str], None], twin: bool = False
    ) -> None:
        distributed.join()
        distributed.check_shares(settings.training.batch)
        self.settings = settings
        self.out = out
        self.warn = warn
        self.train_set = open_dataset(settings.dataset, settings.dataset.train)
        self.evaluation_set = open_dataset(settings.dataset, settings.dataset.evaluation)
        self.taxonomy = self.train_set.taxonomy
        self.twin = twin
        if twin:
            check_twin(self.train_set, settings)
        self.pixels = load_pixels(settings.pixels, self.taxonomy, settings.dataset.name)
        self.frame_ids = evenly_spaced(self.train_set.frame_ids, settings.dataset.limit)
        for warning in check_pixels(self.pixels, self.train_set, settings.pixels):
            warn(warning)
        self.network()  # wrong weights, a wrong forest or layer are told before the folder is claimed
        self._network_before(0)
        if settings.pseudo_labels.method == "similarity":
            open_saliency(settings.saliency)
        else:
            LayerPasses(load_classifier(settings.cam), settings.embedding)
        assisting = distributed.number() > 0
        if assisting:
            distributed.wait()  # until the first process has claimed the folder
        splits = (self.train_set, self.evaluation_set)
        self.folder = RunFolder(out, settings, self.pixels, splits, resume=resume or assisting)
        if not assisting:
            distributed.wait()

    def run(self) -> Result:
        """Run what is not complete yet; return the report, which is also `report.json` in the folder.

        Under torchrun the first process does so and all share the trainings; each returns the report.

        Raises
        ------
        InputError
            If another process is at work in the folder, or a stage cannot go on.
        """
        if distributed.number():
            return self._assist()
        with claimed(self.out):
            self.tracker = Tracker(self.folder.state.tracking_uri, self.settings.tracking.experiment, self.out)
            return self._run()

    def _run(self) -> Result:
        began = time.monotonic()
        with self.tracker.pipeline(self.settings.name, self.folder.state.key) as run_id:
            write_json(self.out / "mlflow.json", {"run_id": run_id, "uri": self.folder.state.tracking_uri})
            self._describe()
            bounds = self._stage("bounds", self._bounds, step=0)  # first, since it meets wrong labels at once
            self._stage("features", self._extract)
            pseudo, rounds = [], []
            for number in range(self.settings.iterations.rounds):
                pseudo.append(self._stage(f"round_{number}/pseudo_labels", partial(self._label, number), step=number))
                rounds.append(self._trained(f"round_{number}", number))
            bound = self._trained(TWIN, 0) if self.twin else self.folder.result(f"{TWIN}/evaluation") or {}
            export = self._stage("model_store", self._export)
        report = {
            "name": self.settings.name,
            "seconds": round(time.monotonic() - began, 1),
            **bounds,
            "pseudo_precision": pseudo[0].get("pseudo/precision"),
            "pseudo_recall": pseudo[0].get("pseudo/recall"),
            "pseudo_coverage": pseudo[0].get("pseudo/coverage"),
            "pseudo_miou": [metrics.get("pseudo/miou_class") for metrics in pseudo],
            "miou_class": [metrics.get("val/miou_class") for metrics in rounds],
            "miou_category": [metrics.get("val/miou_category") for metrics in rounds],
            "twin_miou_class": bound.get(f"{TWIN}/miou_class"),
            "twin_miou_category": bound.get(f"{TWIN}/miou_category"),
            **export,
            "mlflow_run_id": run_id,
            "mlflow_uri": self.folder.state.tracking_uri,
            "out": str(self.out),
        }
        write_json(self.out / "report.json", report)
        distributed.wait()
        return report

    def _assist(self) -> Result:
        """Have a share of every training, and nothing else to do."""
        for training in [f"round_{number}" for number in range(self.settings.iterations.rounds)] + [TWIN] * self.twin:
            distributed.wait()  # until its labels are there
            if self.folder.result(f"{training}/network") is None:
                self._fit(training)
            distributed.wait()
        distributed.wait()
        return json.loads((self.out / "report.json").read_text())

    def _trained(self, training: str, step: int) -> Result:
        """Train and evaluate; every process comes here."""
        distributed.wait()
        self._stage(f"{training}/network", partial(self._train, training))
        self.folder.checkpoint(training).unlink(missing_ok=True)
        distributed.wait()
        return self._stage(f"{training}/evaluation", partial(self._evaluate, training, step), step=step, drawn=True)

    def features(self, frame_id: str) -> RegionFeatures:
        """Return a training frame's features, which the first stage has written (`similarity` only)."""
        return RegionFeatures.load(self.folder.features(frame_id))

    def regions(self, frame_id: str) -> EmbeddedRegions:
        """Return a training frame's embedded regions, which the first stage has written (`propagation` only)."""
        return EmbeddedRegions.load(self.folder.features(frame_id))

    def pseudo_labels(self, number: int, frame_id: str) -> NDArray[np.uint8]:
        """Return a training frame's pseudo labels of a round, uint8 [H, W]."""
        return np.asarray(Image.open(self.folder.pseudo_labels(number, frame_id)))

    def network(self, training: str | None = None) -> DeepLab:
        """Return the network as a training left it, or for None as it starts: with the classifier's weights."""
        settings, classes = self.settings, len(self.taxonomy.classes)
        if training is not None:
            return trained_network(self.folder.network(training), settings, classes)
        network = build_network(settings.network, settings.cam, classes, seed=settings.seed)
        return network.to("cuda" if torch.cuda.is_available() else "cpu")

    def export(self, path: Path, number: int | None = None, precision: Precision = "fp32") -> Result:
        """Write a trained network as a verified ONNX file.

        Parameters
        ----------
        path
            The file to write.
        number
            The round; None takes the last one.
        precision
            Of its arithmetic.

        Raises
        ------
        InputError
            If there is no such round, it is not complete, or the precision's gate refuses the file.
        """
        last = self.settings.iterations.rounds - 1
        number = last if number is None else number
        if number > last:
            raise InputError(f"--round {number}: the run has rounds 0 to {last}")
        metrics = self.folder.result(f"round_{number}/evaluation")
        if metrics is None:
            raise InputError(f"{self.out}: round {number} is not complete; go on with `onepixel train --resume`")
        size = self.settings.network.input_size
        metadata = ModelMetadata(
            classes=describe_classes(self.taxonomy),
            input_size=size,
            mlflow_run_id=json.loads((self.out / "mlflow.json").read_text())["run_id"],
            dataset=DatasetDescription(name=self.settings.dataset.name, digest=self.folder.state.dataset_digest),
            pixels_digest=self.pixels.digest(),
            metrics=metrics,
            precision="fp32",
        )
        frames = [
            np.asarray(resize_frame(self.train_set.frame(frame_id), *size))
            for frame_id in evenly_spaced(self.frame_ids, VERIFIED_FRAMES)
        ]
        judges = evenly_spaced(self.frame_ids, 2 * CALIBRATION_FRAMES)
        network = self.network(f"round_{number}").cpu()
        report = export_precision(network, metadata, path, frames, precision, self.train_set, judges)
        return report | asdict(network_cost(self.settings.network, self.settings.cam, len(self.taxonomy.classes)))

    # The stages. Each takes its folder and returns what `done.json` keeps.

    def _extract(self, folder: Path) -> Result:
        frame_ids = list(dict.fromkeys([*self.frame_ids, *self.pixels.frame_ids]))
        extract_features(self.settings, frame_ids, folder)
        return {"frames": len(frame_ids)}

    def _bounds(self, _folder: Path) -> Result:
        if not self.evaluation_set.has_labels:
            return {"floor_miou": None, "ceiling_miou": None}
        bounds = measure_bounds(self.evaluation_set, self.settings.superpixels)
        if bounds["floor_miou"] is None:
            self.warn(f"every true label of '{self.evaluation_set.split}' is 255, which counts for nobody: no figures")
        return bounds

    def _label(self, number: int, folder: Path) -> Result:
        confusion = ConfusionMatrix(self.taxonomy)
        description = f"round {number}: pseudo labels"
        made = self._labels(number, folder)
        for one in tqdm(made, total=len(self.frame_ids), desc=description, unit="frame", disable=None):
            frame_id = one.frame_id
            regions = RegionFeatures.load_labels(self.folder.features(frame_id))
            labels = one.labels[regions]
            if one.distributions is not None:
                with whole_file(self.folder.soft_labels(number, frame_id)) as temporary:
                    np.save(temporary, one.distributions.astype(np.float16))
            for path, mask in (
                (self.folder.confidence(number, frame_id), np.round(255 * one.confidence).astype(np.uint8)[regions]),
                (self.folder.pseudo_labels(number, frame_id), labels),
            ):
                with whole_file(path) as temporary:
                    temporary.write_bytes(encode_png(mask))
            if self.train_set.has_labels:
                confusion.update(self.train_set.labels(frame_id), labels)
        return confusion.pseudo_label_metrics() if self.train_set.has_labels else {}

    def _labels(self, number: int, folder: Path) -> Iterator[FrameLabels]:
        """Decide a round's labels: from the pixels, or from what the network of the round before makes of them."""
        before = self._network_before(number)
        if before is not None and self.settings.iterations.loop == "paper":
            load = self.regions if self.settings.pseudo_labels.method == "propagation" else self.features
            return labels_by_prediction(before, self.train_set, load, self.frame_ids, self.settings)
        if number == 0:
            scoring = score_frames(
                self.settings, self.out / "features", self.frame_ids, self.pixels, self.taxonomy, self.folder.graph
            )
        if before is not None:
            graph = Propagation.load(self.folder.graph, self.settings.propagation)
            scoring = scores_with_prediction(graph, before, self.train_set, self.regions, self.frame_ids, self.settings)
        picture = score_histograms(scoring)
        save_png(picture, folder.parent / "score_histograms.png")
        self.tracker.figure(picture, "score_histograms")
        return labels_by_scores(scoring, self.frame_ids, self.settings.training.soft_labels)

    def _network_before(self, number: int) -> DeepLab | None:
        """Return the network whose predictions help to label a round; None where there is none yet."""
        if number:
            return self.network(f"round_{number - 1}")
        start = self.settings.iterations.start
        return None if start is None else trained_network(start, self.settings, len(self.taxonomy.classes))

    def _train(self, training: str, _folder: Path) -> Result:
        network, losses = self._fit(training)
        save_network(network, self.folder.network(training))
        means = {update: float(losses[update : update + 10].mean()) for update in range(0, len(losses), 10)}
        self.tracker.curve("train/loss", means)
        return {"updates": len(losses), "loss": float(losses[-10:].mean())}

    def _fit(self, training: str) -> tuple[DeepLab, NDArray[np.float32]]:
        """Train on a round's pseudo labels, from the round before where that is asked, or the twin on the truth."""
        settings, iterations = self.settings.training, self.settings.iterations
        frame_ids = self.frame_ids
        if training == TWIN:
            number, before = 0, None
            load, labels = partial(true_sample, self.train_set, self.settings), self.train_set.labels
            labelled = set(self.train_set.labelled_ids)
            frame_ids = [frame_id for frame_id in frame_ids if frame_id in labelled]
            rounds = iterations.rounds if iterations.warm_start else 1
            settings = settings.model_copy(update={"updates": rounds * settings.updates})
        else:
            number = int(training.removeprefix("round_"))
            before = self._network_before(number) if number == 0 or iterations.warm_start else None
            load = partial(pseudo_sample, self.folder, self.train_set, self.settings, number)
            labels = partial(self.pseudo_labels, number)
        network = self.network() if before is None else before
        losses = train(
            network,
            load,
            frame_ids,
            settings,
            labels=labels,
            seed=self.settings.seed,
            round_number=number,
            checkpoint=self.folder.checkpoint(training),
            resume=True,
        )
        return network, losses

    def _evaluate(self, training: str, step: int, folder: Path) -> Result:
        network, size = self.network(training), self.settings.network.input_size
        evaluation = evaluate_network(network, self.evaluation_set, size, f"{training}: evaluation")
        if self.evaluation_set.has_labels:
            write_confusion(evaluation.confusion, folder)
        for frame_id in evenly_spaced(self.frame_ids, FIGURES):
            frame = self.train_set.frame(frame_id)
            masks = {"prediction": predict(network, frame, size).class_ids}
            if training != TWIN:
                masks = {"pseudo label": self.pseudo_labels(step, frame_id)} | masks
            if self.train_set.has_labels:
                masks["truth"] = self.train_set.labels(frame_id)
            save_png(panel(frame, masks, self.taxonomy, frame_id), folder / f"{frame_id}.png")
        return evaluation.network_metrics(TWIN if training == TWIN else "val")

    def _export(self, folder: Path) -> Result:
        result = self.export(folder / self.settings.name / "1" / "model.onnx")
        write_config(Path(result["onnx"]))
        frame = resize_frame(self.train_set.frame(self.frame_ids[0]), *self.settings.network.input_size)
        self.tracker.model(Path(result["onnx"]), np.asarray(frame))
        self.tracker.metrics({"export/agreement": result["onnx_agreement"]}, 0)
        return result

    # What holds the stages together.

    def _stage(
        self, name: str, work: Callable[[Path], Result], *, step: int | None = None, drawn: bool = False
    ) -> Result:
        """Run a stage that is not complete, and track it; one that was linked from another run is tracked alone.

        Where `step` is given the result is metrics of that step; where `drawn` is, pictures lie in the folder.
        """
        done, path = self.folder.result(name), self.out / name
        if done is not None and self.tracker.has_stage(name):
            return done
        path.mkdir(parents=True, exist_ok=True)
        with self.tracker.stage(name):
            result = work(path) if done is None else done
            if step is not None:
                self.tracker.metrics({key: value for key, value in result.items() if value is not None}, step)
            for picture in sorted(path.glob("*.png")) if drawn else ():
                self.tracker.figure(np.asarray(Image.open(picture)), picture.stem)
        if done is None:
            self.folder.complete(name, result)
        return result

    def _describe(self) -> None:
        tags = {
            "onepixel.dataset": self.settings.dataset.name,
            "onepixel.dataset_digest": self.folder.state.dataset_digest,
            "onepixel.pixels_digest": self.pixels.digest(),
        }
        describe_run(self.tracker, self.settings, self.out, (self.train_set, self.evaluation_set), tags)
