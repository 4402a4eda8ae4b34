"""Takes the place of a model, so that everything runs at once. Throw it away."""

from __future__ import annotations


def predict(values: list[float]) -> list[float]:
    """Predict a value for each value."""
    return [2 * value for value in values]
