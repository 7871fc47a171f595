"""What one gate says."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """What one gate said of a candidate."""

    name: str
    """Which gate."""
    passed: bool | None
    """Whether the candidate may pass; None where it could not be asked."""
    figure: float | None
    """What was measured; None where there is no figure."""
    limit: float | None
    """What it was held to."""
    message: str
    """The same for a person."""
