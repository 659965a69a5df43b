"""Comparisons judged together: error rates by simulation, and the rules of stopping."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from lorabench.analysis.paired import Family, Rules

RUNS = 1500


def simulate(ratios: list[float], spread: float, rules: Rules, seed: int, tail: float | None = None) -> list[str]:
    """The verdicts of one run: looks after each fourth pair, a last one at the end."""
    generator = np.random.default_rng(seed)
    family = Family(len(ratios), rules)
    for pair in range(1, rules.pairs + 1):
        for index, ratio in enumerate(ratios):
            if not family.judgement(index).settled:
                noise = generator.normal() if tail is None else generator.standard_t(tail) * np.sqrt((tail - 2) / tail)
                family.add(index, np.log(ratio) + spread * noise)
        if pair % 4 == 0:
            for index in range(len(ratios)):
                family.look(index, final=pair == rules.pairs)
    return [family.judgement(index).verdict for index in range(len(ratios))]


def allowed(rate: float) -> float:
    """Three standard errors above ``rate`` in so many runs."""
    return rate + 3 * float(np.sqrt(rate * (1 - rate) / RUNS))


@pytest.mark.parametrize("tail", [None, 3.0], ids=["normal", "heavy-tailed"])
def test_looking_often_raises_no_more_false_alarms_than_alpha(tail):
    rules = Rules(alpha=0.05, floor=1e-4, pairs=24)
    alarms = sum(simulate([1.0], 0.05, rules, seed, tail)[0] in ("slower", "faster") for seed in range(RUNS))
    assert alarms / RUNS < allowed(rules.alpha)
    if tail is None:
        assert alarms / RUNS > rules.alpha / 2, "more than that would waste pairs"


def test_a_change_of_the_floor_is_not_called_equivalent_more_often_than_alpha():
    rules = Rules(alpha=0.05, floor=0.03, pairs=24)
    wrong = sum(simulate([1.03], 0.02, rules, seed)[0] == "equivalent" for seed in range(RUNS))
    assert wrong / RUNS < allowed(rules.alpha / 2)


def test_many_comparisons_raise_no_more_false_alarms_than_one():
    rules = Rules(alpha=0.05, floor=1e-4, pairs=12)
    runs = RUNS // 3
    alarms = sum(
        any(verdict in ("slower", "faster") for verdict in simulate([1.3, 1.0, 1.0], 0.05, rules, seed)[1:])
        for seed in range(runs)
    )
    assert alarms / runs < 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(1.10, "slower"), (0.90, "faster"), (1.0, "equivalent"), (1.01, "equivalent")]
)
def test_what_is_plain_is_found(ratio, verdict):
    verdicts = Counter(simulate([ratio], 0.01, Rules(), seed)[0] for seed in range(20))
    assert verdicts == {verdict: 20}


def filled(log_ratios: list[float], size: int = 1, rules: Rules | None = None) -> Family:
    family = Family(size, rules or Rules())
    for value in log_ratios:
        family.add(0, value)
    return family


def zigzag(mean: float, spread: float, n: int) -> list[float]:
    return [mean + spread * (-1) ** index for index in range(n)]


def test_a_slowdown_that_may_not_matter_is_measured_on_and_named_at_the_end():
    values = zigzag(0.025, 0.010, 12)
    family = filled(values)
    family.look(0)
    assert (family.judgement(0).verdict, family.judgement(0).settled) == ("slower", False)
    family.look(0, final=True)
    assert (family.judgement(0).verdict, family.judgement(0).settled) == ("slower", True)


def test_a_certain_slowdown_within_the_floor_is_equivalent():
    family = filled(zigzag(0.015, 0.004, 12))
    family.look(0)
    judgement = family.judgement(0)
    assert judgement.verdict == "equivalent"
    assert judgement.low is not None
    assert judgement.low > 1


def test_what_is_settled_stays_so():
    family = filled(zigzag(0.2, 0.01, 8))
    family.look(0)
    before = family.judgement(0)
    assert before.settled
    family.add(0, -5.0)
    family.look(0)
    assert family.judgement(0) == before


def test_a_slower_found_passes_its_alpha_on():
    hard = zigzag(0.10, 0.1327, 12)
    alone = Family(1, Rules(alpha=0.05, pairs=12))
    beside_noise, beside_slower = Family(3, Rules(alpha=0.05, pairs=12)), Family(3, Rules(alpha=0.05, pairs=12))
    for value in hard:
        for family in (alone, beside_noise, beside_slower):
            family.add(0, value)
        for index in (1, 2):
            beside_slower.add(index, 0.3 + value / 10)
            beside_noise.add(index, (value - 0.10) * 2)
    alone.look(0, final=True)
    beside_noise.look(0, 1, 2, final=True)
    beside_slower.look(0, 1, 2, final=True)
    assert alone.judgement(0).verdict == "slower"
    assert beside_noise.judgement(0).verdict == "inconclusive"
    assert beside_slower.judgement(0).verdict == "slower"


def test_three_pairs_say_nothing():
    family = filled([0.5, 0.5, 0.5])
    family.look(0, final=True)
    assert family.judgement(0).verdict == "inconclusive"
    assert family.judgement(0).ratio is None


def test_samples_without_any_spread_are_judged():
    family = filled([0.0] * 4)
    family.look(0)
    assert family.judgement(0).verdict == "equivalent"
