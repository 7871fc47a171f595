"""The embedded forest: DRFI for who has fitted none, from procedural scenes, shipped beside this file.

It is made by

    make saliency

which runs `python -m training.features.saliency.embedded --out training/features/saliency/forest.onnx`. The figures
that it prints are also in the file's metadata: the area under the ROC curve on scenes of a seed of their own.
"""

import argparse
import json
from pathlib import Path

import cv2

from training.datasets.salient import SalientScenes
from training.features.saliency.fit import Parts, fit_forest
from training.features.saliency.writing import write_forest

SIZE = (300, 400)
"""Height and width of the scenes, pixels."""
SCENES, FUSION_SCENES, HELD_OUT_SCENES = 600, 120, 150
HELD_OUT_SEED = 1 << 20
"""Scenes of this seed are never fitted on."""
MAXIMUM_BYTES = 2 << 20
COMMAND = "python -m training.features.saliency.embedded --out training/features/saliency/forest.onnx"


def main() -> None:
    """Fit the embedded forest and write it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    path = parser.parse_args().out
    cv2.setNumThreads(1)
    parts = Parts(
        forest=SalientScenes(SCENES, seed=0, size=SIZE),
        fusion=SalientScenes(FUSION_SCENES, seed=1, size=SIZE),
        held_out=SalientScenes(HELD_OUT_SCENES, seed=HELD_OUT_SEED, size=SIZE),
    )
    model, report = fit_forest(parts, source="procedural scenes (training.datasets.salient)", command=COMMAND)
    write_forest(model, path)
    print(json.dumps({"forest": str(path), "bytes": path.stat().st_size, **report}))


if __name__ == "__main__":
    main()
