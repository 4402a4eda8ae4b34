"""The surrogate: polynomials fitted to runs of the simulation, quick enough to be searched."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from sinfer.products.soe.reactor import DISTURBANCES, NOISE, OUTPUTS, RANGES, SETTINGS, steady_state

Array = NDArray[np.float64]

INPUTS = (*SETTINGS, *DISTURBANCES)
_DEGREE = 5
_RUNS = 512


class Surrogate:
    """One polynomial for each output, of all inputs scaled to [-1, 1].

    Args:
        inputs: one row for each run: values of ``INPUTS``.
        outputs: what came of each run: values of ``OUTPUTS``.
        low, high: the inputs' range, in which the polynomials hold.
    """

    def __init__(self, inputs: Array, outputs: Array, low: Array, high: Array) -> None:
        self.low, self.high = low, high
        powers = product(range(_DEGREE + 1), repeat=len(low))
        self._powers = np.array([row for row in powers if sum(row) <= _DEGREE])
        self._weights, *_ = np.linalg.lstsq(self._terms(inputs), outputs, rcond=None)

    def _terms(self, inputs: Array) -> Array:
        scaled = (2 * inputs - self.low - self.high) / (self.high - self.low)
        terms: Array = np.prod(scaled[..., None, :] ** self._powers, axis=-1)
        return terms

    def predict(self, inputs: Array) -> Array:
        """Values of ``OUTPUTS``, for one row of inputs or for many."""
        outputs: Array = self._terms(inputs) @ self._weights
        return outputs


def fitted_surrogate(seed: int = 1) -> Surrogate:
    """Run the simulation all over its range (a Sobol sequence), and fit what it measures."""
    low, high = np.array([RANGES[name] for name in INPUTS]).T
    inputs = qmc.scale(qmc.Sobol(len(INPUTS), rng=seed).random(_RUNS), low, high)
    noise = np.random.default_rng(seed).normal(size=(_RUNS, len(OUTPUTS)))
    outputs = np.array([steady_state(*run) for run in inputs])
    outputs += noise * [NOISE[name] for name in OUTPUTS]
    return Surrogate(inputs, outputs, low, high)
