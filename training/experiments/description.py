"""What is said of a run when it starts: all that it depends on, so that it can be compared and run again."""

import hashlib
from pathlib import Path

from training.datasets.base import Dataset
from training.experiments.provenance import installed_versions, lock_file, run_tags
from training.settings import Settings
from training.tracking import Tracker


def describe_run(
    tracker: Tracker, settings: Settings, out: Path, splits: tuple[Dataset, Dataset], tags: dict[str, str]
) -> None:
    """Say a run's settings, pixels, data, code and command on the open run.

    Parameters
    ----------
    tracker
        Of the run.
    settings
        Its settings.
    out
        Its folder, with `settings.yaml` and `pixels.yaml`.
    splits
        Those to train and to evaluate on.
    tags
        What else is known of it.
    """
    lock = lock_file()
    files = [out / "settings.yaml", out / "pixels.yaml", *([lock] if lock else [])]
    tracker.describe(settings.model_dump(mode="json"), tags | run_tags(), files)
    tracker.text(installed_versions(), "installed.txt")
    source = str(settings.dataset.root or f"generated, seed {settings.dataset.seed}")
    for context, split in zip(("training", "evaluation"), splits, strict=True):
        manifest = split.manifest()
        if context == "training":
            manifest += f"pixels.yaml {hashlib.sha256((out / 'pixels.yaml').read_bytes()).hexdigest()}\n"
        digest = hashlib.sha256(manifest.encode()).hexdigest()
        tracker.dataset(f"{settings.dataset.name}-{split.split}", context, digest, source, len(split.frame_ids))
        tracker.text(manifest, f"dataset/{split.split}.txt")
