"""Looking more than once without being wrong more often: alpha spending.

Lan and DeMets 1983, Discrete sequential boundaries for clinical trials, Biometrika 70: a function says how much of
alpha may be spent by the time that a share of the planned pairs is there, and the boundary of each look is the one that
spends just what has become free. When and how often one looks need not be planned. The function is their equation for
Pocock's shape: settled comparisons should end early, because each pair costs two processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Gauss-Legendre nodes over a continuation region: the published boundaries of 5 looks come out to 4 decimals.
_NODES = 256
# Below it a root finder finds rounding errors; nothing is rejected then.
_NEGLIGIBLE = 1e-13
_FARTHEST = 40.0
_DENSITY_REACH = 10.0
_ROOT_2_PI = float(np.sqrt(2 * np.pi))


def pocock_spending(fraction: float, alpha: float) -> float:
    """Of ``alpha``, what may be spent at ``fraction`` of the information, 0 to 1 (Lan and DeMets 1983, alpha-2*)."""
    return float(alpha * np.log1p((np.e - 1) * min(1.0, max(0.0, fraction))))


@lru_cache(maxsize=4096)
def nominal_levels(information: tuple[float, ...], spent: tuple[float, ...]) -> tuple[float, ...]:
    """The two-sided p value below which each look rejects.

    ``information`` rises from look to look (pairs: only ratios matter), ``spent`` is alpha spent by each look, in all.
    The statistics of the looks are a Brownian motion's; its density is carried from look to look by numerical
    integration (Armitage, McPherson and Rowe 1969, J. R. Statist. Soc. A 132; Jennison and Turnbull 2000, Group
    Sequential Methods, chapter 19).
    """
    from scipy import special

    abscissae, weights = np.polynomial.legendre.leggauss(_NODES)
    levels: list[float] = []
    before = _Density(np.zeros(1), np.ones(1))
    at_before, free_before = 0.0, 0.0
    for at, free in zip(information, spent, strict=True):
        width = float(np.sqrt(at - at_before))
        z = _solve(before, at, width, free - free_before)
        reach = np.sqrt(at) * min(z, _DENSITY_REACH)
        nodes = abscissae * reach
        density = (
            np.exp(-(((nodes[:, None] - before.nodes[None, :]) / width) ** 2) / 2)
            @ before.masses
            / (width * _ROOT_2_PI)
        )
        before = _Density(nodes, density * weights * reach)
        levels.append(float(2 * special.ndtr(-z)))
        at_before, free_before = at, free
    return tuple(levels)


@dataclass(frozen=True)
class _Density:
    """Of the statistic at one look, where no look has rejected yet: probability masses at nodes."""

    nodes: NDArray[np.float64]
    masses: NDArray[np.float64]

    def beyond(self, edge: float, width: float) -> float:
        """The probability to be outside of -edge to edge at the next look, ``width`` standard deviations on."""
        from scipy import special

        tails = special.ndtr((self.nodes - edge) / width) + special.ndtr((-edge - self.nodes) / width)
        return float(self.masses @ tails)


def _solve(before: _Density, at: float, width: float, share: float) -> float:
    """The z value beyond which ``share`` of alpha lies."""
    from scipy import optimize

    if share < _NEGLIGIBLE:
        return _FARTHEST
    scale = float(np.sqrt(at))
    return float(optimize.brentq(lambda z: before.beyond(z * scale, width) - share, 0.0, _FARTHEST, xtol=1e-10))


def levels_of(looks: Sequence[int], planned: int, alpha: float, final: bool) -> tuple[float, ...]:
    """The nominal two-sided level of each look, after ``looks`` pairs, of ``planned`` at the most.

    At a ``final`` look all that is left is spent, also if the planned pairs have not been reached: a budget that ran
    out knows nothing of the verdict (Jennison and Turnbull 2000, section 7.2.1).
    """
    spent = [pocock_spending(pairs / planned, alpha) for pairs in looks]
    if final:
        spent[-1] = alpha
    return nominal_levels(tuple(float(pairs) for pairs in looks), tuple(spent))
