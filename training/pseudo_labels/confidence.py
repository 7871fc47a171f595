"""What a label is sure of: where its superpixel stands among all that have the same label, by its lead."""

import numpy as np
from numpy.typing import NDArray

from training.pseudo_labels.scoring import Scored, Scoring
from training.taxonomy import IGNORED


def label_confidence(scoring: Scoring) -> dict[str, NDArray[np.float32]]:
    """Return what each superpixel's label is sure of, by frame, float32 [K] in (0, 1].

    It is the share of the superpixels with the same label, over all frames, that do not lead by more: the lead is the
    label's score less the best other one that the superpixel's band allows, and below 0 where eq (5) prefers an object
    to a likelier scene. Scores of different classes and methods have different spreads; ranks have one. An ignored
    superpixel has 0.
    """
    frame_ids = list(scoring.frames)
    labels = [scoring.labels(frame_id) for frame_id in frame_ids]
    all_labels = np.concatenate(labels)
    leads = np.concatenate([_lead(scoring.frames[name], one) for name, one in zip(frame_ids, labels, strict=True)])
    confidence = np.zeros(len(leads), np.float32)
    for label in np.setdiff1d(np.unique(all_labels), IGNORED):
        members = np.flatnonzero(all_labels == label)
        ordered = np.sort(leads[members])
        confidence[members] = np.searchsorted(ordered, leads[members], side="right") / len(members)
    return dict(zip(frame_ids, np.split(confidence, np.cumsum([len(one) for one in labels])[:-1]), strict=True))


def _lead(frame: Scored, labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    rows, chosen = np.arange(len(labels)), np.where(labels == IGNORED, 0, labels)
    others = np.where(frame.allowed, frame.after, -np.inf)
    others[rows, chosen] = -np.inf
    return (frame.after[rows, chosen] - others.max(axis=1)).astype(np.float32)
