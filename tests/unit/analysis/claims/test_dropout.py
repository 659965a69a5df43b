from __future__ import annotations

from dataclasses import replace

import pytest
from lives import evidence
from trainings import MIB, around, training

from lorabench.analysis.claims.dropout import DROPOUT_RATE
from lorabench.record import RecordDevice

# batch x length x (inputs of q and v, 256 each, in 4 layers)
NUMBERS = 1 * 128 * 4 * 2 * 256
# 4 bytes of noise and 4 of input on a CPU; on a GPU a byte of mask.
COST = NUMBERS * 8


def pair(make_record, *, added=COST, slower=1.02, rate=0.1, group="dropout", **case):
    settings = {"sequence_length": 128, "group": group, **case}
    return [
        training(make_record, adapter={"dropout": 0.0}, seconds=around(0.020), **settings),
        training(
            make_record,
            adapter={"dropout": rate},
            dynamic=10 * MIB + added,
            seconds=around(0.020 * slower),
            **settings,
        ),
    ]


def test_supported_at_the_computed_price(make_record):
    finding = DROPOUT_RATE.test(evidence(*pair(make_record)))
    assert finding.verdict == "supported"
    assert finding.effect == pytest.approx(1.02, abs=1e-6)
    assert finding.p_value is not None
    assert finding.p_value < 0.001
    assert finding.rows[0]["computed MiB"] == finding.rows[0]["added MiB"] == COST / MIB == 2.0


def test_a_gpus_mask_has_a_byte_where_a_cpus_noise_has_four(make_record):
    on_gpu = [replace(record, device=RecordDevice("cuda", "Imaginary GPU")) for record in pair(make_record)]
    finding = DROPOUT_RATE.test(evidence(*on_gpu))
    assert finding.rows[0]["computed MiB"] == NUMBERS * 5 / MIB
    assert finding.verdict == "refuted"
    on_gpu = [
        replace(record, device=RecordDevice("cuda", "Imaginary GPU")) for record in pair(make_record, added=NUMBERS * 5)
    ]
    assert DROPOUT_RATE.test(evidence(*on_gpu)).verdict == "supported"


@pytest.mark.parametrize("changes", [{"added": 2 * COST}, {"slower": 1.3}], ids=["bytes", "time"])
def test_refuted_by_too_many_bytes_or_too_long_a_step(make_record, changes):
    assert DROPOUT_RATE.test(evidence(*pair(make_record, **changes))).verdict == "refuted"


def test_refuted_where_the_layers_do_not_drop(make_record):
    zero, dropped = pair(make_record)
    assert dropped.proof is not None
    dropped = replace(dropped, proof=replace(dropped.proof, adapter_dropout=0.0))
    assert DROPOUT_RATE.test(evidence(zero, dropped)).verdict == "refuted"


def test_conditional_where_one_rate_costs_more(make_record):
    records = [*pair(make_record), pair(make_record, rate=0.5, slower=1.4)[1]]
    finding = DROPOUT_RATE.test(evidence(*records))
    assert finding.verdict == "conditional"
    assert finding.condition == "under dropout 0.1 on llama-tiny fp32; not under dropout 0.5 on llama-tiny fp32"


def test_inconclusive_where_the_interval_holds_the_limit(make_record):
    zero, dropped = pair(make_record, slower=1.1)
    dropped = replace(dropped, latency={"step": replace(dropped.latency["step"], samples_s=around(0.022, spread=0.2))})
    finding = DROPOUT_RATE.test(evidence(zero, dropped))
    assert finding.verdict == "inconclusive"
    assert finding.ci95 is not None
    assert finding.ci95[0] < 1.10 < finding.ci95[1]


def test_not_tested_without_dropout_or_in_turn(make_record):
    assert DROPOUT_RATE.test(evidence(training(make_record))).verdict == "not tested"
    finding = DROPOUT_RATE.test(evidence(*pair(make_record, group=None)))
    assert finding.verdict == "not tested"
    assert "in turn" in finding.missing[0]
    assert len(finding.rows) == 1


def test_too_many_bytes_refute_without_any_time(make_record):
    assert DROPOUT_RATE.test(evidence(*pair(make_record, group=None, added=9 * MIB))).verdict == "refuted"
