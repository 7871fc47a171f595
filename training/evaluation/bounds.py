"""What a figure is judged by: the floor, the bands alone, and the ceiling, an oracle that labels each superpixel."""

from tqdm import tqdm

from training.datasets.base import Dataset
from training.evaluation.metrics import ConfusionMatrix, band_prior_labels, none_where_undefined, region_oracle
from training.features.superpixels import superpixels
from training.settings.method import SuperpixelSettings


def measure_bounds(dataset: Dataset, settings: SuperpixelSettings) -> dict[str, float | None]:
    """Return class mIoU of the floor and of the ceiling on a labelled split: `floor_miou` and `ceiling_miou`.

    None where all labels are 255, as those of Cityscapes' test split.
    """
    floor, ceiling = ConfusionMatrix(dataset.taxonomy), ConfusionMatrix(dataset.taxonomy)
    for frame_id in tqdm(dataset.frame_ids, desc="floor and ceiling", unit="frame", disable=None):
        truth = dataset.labels(frame_id)
        floor.update(truth, band_prior_labels(dataset.taxonomy, truth.shape))
        ceiling.update(truth, region_oracle(superpixels(dataset.frame(frame_id), settings), truth))
    miou = {"floor_miou": floor.miou_class(), "ceiling_miou": ceiling.miou_class()}
    return {key: none_where_undefined(value) for key, value in miou.items()}
