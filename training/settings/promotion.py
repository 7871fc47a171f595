"""Settings of the gates: what a candidate must show before it takes the champion's place."""

from typing import Annotated

from pydantic import Field

from training.settings.base import Fraction, Frozen


class PromotionSettings(Frozen):
    """The gates' frames and limits."""

    gate_split: str | None = None
    """The split whose frames judge a candidate; None takes the training split. The evaluation split is refused: it is
    for reporting."""
    gate_frames: Annotated[int, Field(ge=1)] = 64
    """Frames of that split, evenly spaced."""
    most_miou_loss: Fraction = 0.005
    """Class mean IoU that a candidate may lose to the champion: the lower 95 % bound of the difference must be above
    minus this."""
    most_class_loss: Fraction = 0.05
    """IoU that any one class may lose."""
    least_class_share: Fraction = 0.001
    """A class that has less of the frames' counted pixels is too rare to be judged by itself."""
    most_latency_ratio: Annotated[float, Field(gt=0)] = 1.5
    """Time of an inference over the champion's."""
    most_size_mib: Annotated[float, Field(gt=0)] = 256.0
    """Size of the file, MiB."""
    least_agreement: Fraction = 0.8
    """Share of pixels on which candidate and champion must agree; asked where the frames have no labels."""
    least_coverage: Fraction = 0.25
    """Of the pixels that the champion gives a class, the candidate must give it at least this share as many; asked
    where the frames have no labels."""
    shadow_frames: Annotated[int, Field(ge=0)] = 0
    """Frames that a server's shadow must have seen of the candidate; 0 asks for no shadow. It is held to
    `least_agreement`, too."""
