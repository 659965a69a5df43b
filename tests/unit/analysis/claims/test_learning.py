from __future__ import annotations

import math

import pytest
from lives import evidence
from trainings import MIB, training

from lorabench.analysis.claims.learning import ALPHA_DECOUPLES_RANK
from lorabench.analysis.claims.preparation import INT8_PREPARATION

TEXT = {"model": "smollm2-135m", "weights": "pretrained", "data": "text", "axes": ()}


def trained(make_record, losses, *, norm=None, adapter=None, **case):
    observations = {"losses": list(losses), "training": {"update_norm": norm}}
    return training(make_record, adapter=adapter, observations=observations, **{**TEXT, **case})


def alphas(make_record, fixed=0.05, unscaled=1.0, *, norms=(1.1, 2.0), seeds=3, unsure=0.0):
    """Curves that lie ``fixed`` and ``unscaled`` apart, and norms that differ by these factors, from rank to rank."""
    records = []
    for seed in range(seeds):
        for alpha_of, apart, factor in ((lambda _: 16.0, fixed, norms[0]), (float, unscaled, norms[1])):
            drift = 1.0 if alpha_of is float else math.exp((unsure + 0.01) * (seed - 1))
            for index, rank in enumerate((4, 16, 64)):
                if rank == 16 and alpha_of is float:
                    continue  # alpha = rank = 16 stands in both
                losses = [3.0 - step - index * apart * drift for step in range(3)]
                lora = {"rank": rank, "alpha": alpha_of(rank)}
                records.append(
                    trained(make_record, losses, norm=10 * factor ** (index * drift), adapter=lora, seed=seed)
                )
    return records


def test_alpha_supported_where_both_spreads_are_smaller(make_record):
    finding = ALPHA_DECOUPLES_RANK.test(evidence(*alphas(make_record)))
    assert (finding.verdict, finding.n) == ("supported", 3)
    assert finding.effect is not None
    assert finding.effect < 0.1
    assert finding.ci95 is not None
    assert finding.ci95[0] <= finding.effect <= finding.ci95[1] < 1
    assert finding.p_value is not None
    assert finding.p_value < 0.01
    assert {row["scaling"] for row in finding.rows} == {"alpha / r", "no scaling"}


def test_alpha_refuted_where_both_spreads_are_larger(make_record):
    finding = ALPHA_DECOUPLES_RANK.test(evidence(*alphas(make_record, 1.0, 0.05, norms=(3.0, 1.01))))
    assert finding.verdict == "refuted"


def test_alpha_conditional_where_only_losses_lie_closer(make_record):
    finding = ALPHA_DECOUPLES_RANK.test(evidence(*alphas(make_record, norms=(3.0, 1.01))))
    assert finding.verdict == "conditional"
    assert finding.condition == "by losses; not by the update's norm"


def test_alpha_inconclusive_where_seeds_disagree(make_record):
    finding = ALPHA_DECOUPLES_RANK.test(evidence(*alphas(make_record, 0.9, 1.0, norms=(1.5, 1.6), unsure=1.0)))
    assert finding.verdict == "inconclusive"
    assert finding.ci95 is not None
    assert finding.ci95[0] < 1 < finding.ci95[1]


def test_alpha_tells_how_rank_stabilised_scaling_does(make_record):
    stabilised = [
        trained(make_record, [3.0, 2.0 - index], norm=10.0, adapter={"rank": rank, "rslora": True}, seed=seed)
        for seed in range(3)
        for index, rank in enumerate((4, 16, 64))
    ]
    finding = ALPHA_DECOUPLES_RANK.test(evidence(*alphas(make_record), *stabilised))
    assert "With alpha / sqrt(r)" in finding.summary
    assert "alpha / sqrt(r)" in {row["scaling"] for row in finding.rows}


def test_alpha_not_tested_with_one_seed_or_without_the_unscaled_runs(make_record):
    fixed = [one for one in alphas(make_record) if one.case["adapter"]["alpha"] == 16.0]
    for records in (alphas(make_record, seeds=1), fixed):
        finding = ALPHA_DECOUPLES_RANK.test(evidence(*records))
        assert finding.verdict == "not tested"
        assert "two seeds" in finding.missing[0]


def preparations(make_record, *, without, prepared, rate=1e-3, seeds=4, noise=0.01):
    """Curves that climb by ``without`` and ``prepared`` nats a step."""
    return [
        trained(
            make_record,
            [3.0, 2.0, 2.0 + 2 * (climb + noise * climb * seed)],
            quantization="int8",
            learning_rate=rate,
            kbit_preparation=is_prepared,
            seed=seed,
        )
        for seed in range(seeds)
        for is_prepared, climb in ((False, without), (True, prepared))
    ]


def test_preparation_supported_where_curves_climb_less(make_record):
    finding = INT8_PREPARATION.test(evidence(*preparations(make_record, without=0.4, prepared=0.1)))
    assert finding.verdict == "supported"
    assert finding.effect == pytest.approx(-0.3045)
    assert finding.p_value is not None
    assert finding.p_value < 0.001


@pytest.mark.parametrize(("without", "prepared"), [(0.1, 0.4), (0.2, 0.2005)], ids=["less steady", "the same"])
def test_preparation_refuted_where_curves_climb_more_or_as_much(make_record, without, prepared):
    records = preparations(make_record, without=without, prepared=prepared)
    finding = INT8_PREPARATION.test(evidence(*records))
    assert finding.verdict == "refuted"
    assert finding.p_value is not None
    assert finding.p_value < 0.05


def test_preparation_conditional_by_learning_rate(make_record):
    low = preparations(make_record, without=0.0, prepared=0.0)
    high = preparations(make_record, without=0.5, prepared=0.1, rate=1e-2)
    finding = INT8_PREPARATION.test(evidence(*low, *high))
    assert finding.verdict == "conditional"
    assert finding.condition == "at learning rate 0.01; not at learning rate 0.001"
    assert [row["learning rate"] for row in finding.rows] == [1e-3, 1e-2]


def test_preparation_inconclusive_where_seeds_disagree(make_record):
    records = [
        trained(
            make_record,
            [3.0, 2.0, 2.0 + rise],
            quantization="int8",
            kbit_preparation=is_prepared,
            seed=seed,
        )
        for seed, rises in enumerate([(0.1, 0.9), (0.9, 0.1), (0.2, 0.4)])
        for is_prepared, rise in zip((False, True), rises, strict=True)
    ]
    finding = INT8_PREPARATION.test(evidence(*records))
    assert finding.verdict == "inconclusive"
    assert finding.ci95 is not None
    assert finding.ci95[0] < 0 < finding.ci95[1]


def test_preparation_tells_its_price(make_record):
    finding = INT8_PREPARATION.test(evidence(*preparations(make_record, without=0.4, prepared=0.1)))
    # SmolLM2: what stays in 16 bits are a tied embedding of 49,152 x 576 and 61 norms.
    added = 2 * (49152 * 576 + 61 * 576) / 2**20
    assert f"it adds {added:.4g} MiB" in finding.summary


def test_preparation_not_tested_with_one_seed_or_on_random_weights(make_record):
    one = preparations(make_record, without=0.4, prepared=0.1, seeds=1)
    random = [
        training(make_record, quantization="int8", kbit_preparation=prepared, observations={"losses": [3.0, 2.0]})
        for prepared in (False, True)
    ]
    for records in (one, random):
        finding = INT8_PREPARATION.test(evidence(*records))
        assert finding.verdict == "not tested"
        assert "pretrained" in finding.missing[0]


def test_preparation_tells_what_it_adds_to_both_kinds_of_memory(make_record):
    runs = [
        training(
            make_record, quantization="int8", kbit_preparation=prepared, static=static * MIB, dynamic=dynamic * MIB
        )
        for prepared, static, dynamic in ((False, 100, 10), (True, 130, 17))
    ]
    told = INT8_PREPARATION.test(evidence(*preparations(make_record, without=0.4, prepared=0.1), *runs)).summary
    assert "On llama-tiny it adds 30 MiB to the 100 MiB of static memory" in told
    assert "and 7 MiB to the 10 MiB of dynamic memory." in told
