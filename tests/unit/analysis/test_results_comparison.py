"""Two results files side by side: which cases belong together, and what differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lorabench.analysis.comparison import changed_settings, compare
from lorabench.case import Adapter
from lorabench.environment import EnvironmentDevice
from lorabench.record import AlsoIn, Memory, RecordDevice, Timing
from lorabench.results import Results

MIB = 2**20


@pytest.fixture
def results(environment):
    def make(*records, environments=None, path="a.jsonl") -> Results:
        known = environments or [environment]
        return Results({one.id: one for one in known}, list(records), [], Path(path))

    return make


@pytest.fixture
def ranked(make_record):
    def make(rank: int, **changes):
        return make_record(case={"adapter": Adapter(rank=rank), "axes": (("adapter.rank", rank),)}, **changes)

    return make


def timing(*samples: float, low: float, high: float) -> Timing:
    return Timing(samples, sorted(samples)[len(samples) // 2], (low, high), unstable=False)


def test_cases_are_matched_by_key_and_the_rest_is_kept(results, ranked):
    comparison = compare(results(ranked(2), ranked(4)), results(ranked(4), ranked(8)))
    assert [pair.head.case["adapter"]["rank"] for pair in comparison.pairs] == [4]
    assert [record.case["adapter"]["rank"] for record in comparison.only_base] == [2]
    assert [record.case["adapter"]["rank"] for record in comparison.only_head] == [8]


def test_differences_are_exact_bytes_and_shares_of_the_base(results, ranked):
    before = ranked(4, memory=Memory(100 * MIB, 50 * MIB, 150 * MIB, 200 * MIB))
    after = ranked(4, memory=Memory(100 * MIB, 50 * MIB + 512, 150 * MIB + 512, 190 * MIB))
    (pair,) = compare(results(before), results(after)).pairs
    found = {metric.name: (metric.difference, metric.share, metric.direction) for metric in pair.metrics[:4]}
    assert found == {
        "static": (0, 0, "same"),
        "dynamic": (512, 512 / (50 * MIB), "more"),
        "peak allocated": (512, 512 / (150 * MIB), "more"),
        "peak reserved": (-10 * MIB, -0.05, "less"),
    }
    assert pair.bytes_direction == "more"


def test_reserved_bytes_alone_leave_a_case_the_same(results, ranked):
    before = ranked(4, memory=Memory(1, 1, 2, 200 * MIB))
    after = ranked(4, memory=Memory(1, 1, 2, 190 * MIB))
    (pair,) = compare(results(before), results(after)).pairs
    assert pair.bytes_direction == "same"


@pytest.mark.parametrize(
    ("low", "high", "direction"),
    [(0.9, 1.2, "unclear"), (1.1, 1.3, "unclear"), (1.11, 1.3, "more"), (0.5, 0.89, "less")],
)
def test_a_time_has_moved_where_the_intervals_are_apart(results, ranked, low, high, direction):
    middle = (low + high) / 2
    before = ranked(4, latency={"step": timing(0.9, 1.0, 1.1, low=0.9, high=1.1)})
    after = ranked(4, latency={"step": timing(low, middle, high, low=low, high=high)})
    (pair,) = compare(results(before), results(after)).pairs
    step = next(metric for metric in pair.metrics if metric.name == "step")
    assert step.direction == direction
    assert step.difference == pytest.approx(middle - 1.0)


def test_what_a_side_lacks_is_not_compared(results, ranked):
    (pair,) = compare(results(ranked(4, memory=None, latency={})), results(ranked(4))).pairs
    assert all(metric.difference is None and metric.direction == "unclear" for metric in pair.metrics)
    assert pair.bytes_direction == "unclear"


def test_the_same_device_is_matched_first_and_another_all_the_same(results, ranked, environment):
    gpu = replace(environment, id="f" * 12, device=EnvironmentDevice("cuda", "A GPU", 80 << 30))
    on_gpu = ranked(4, environment=gpu.id, device=RecordDevice("cuda", "A GPU"))
    both = results(ranked(4), on_gpu, environments=[environment, gpu])
    swapped = results(on_gpu, ranked(4), environments=[gpu, environment])
    assert [(p.base.device.name, p.head.device.name) for p in compare(both, swapped).pairs] == [
        ("Imaginary CPU", "Imaginary CPU"),
        ("A GPU", "A GPU"),
    ]
    alone = compare(results(ranked(4)), results(on_gpu, environments=[gpu]))
    assert len(alone.pairs) == 1
    assert "device: Imaginary CPU in the base, A GPU in the head" in map(str, alone.notes)


def test_measured_is_matched_with_predicted_last(results, ranked):
    measured, predicted = ranked(4), ranked(4, source="predicted")
    comparison = compare(results(predicted, measured), results(measured))
    assert [pair.base.source for pair in comparison.pairs] == ["measured"]
    assert [record.source for record in comparison.only_base] == ["predicted"]


def test_versions_that_differ_are_said(results, ranked, environment):
    other = replace(environment, id="e" * 12, versions={**environment.versions, "peft": "0.22.0"})
    head = results(ranked(4, environment=other.id), environments=[other])
    assert [str(note) for note in compare(results(ranked(4)), head).notes] == [
        "peft: 0.21.2 in the base, 0.22.0 in the head"
    ]
    assert compare(results(ranked(4)), results(ranked(4))).notes == ()


def test_what_came_at_the_peak_is_told_the_largest_first(results, ranked):
    before = ranked(4, memory=Memory(1, 1, 2, categories={"activations": 10, "logits": 7, "gradients": 3}))
    after = ranked(4, memory=Memory(1, 1, 2, categories={"activations": 5, "logits": 7, "temporaries": 9}))
    (pair,) = compare(results(before), results(after)).pairs
    assert pair.categories == (("temporaries", 9), ("activations", -5), ("gradients", -3))


def test_a_namesake_with_other_settings_is_found(ranked, make_record):
    case = {"adapter": Adapter(rank=4), "axes": (("adapter.rank", 4),)}
    longer = make_record(case={**case, "sequence_length": 256})
    assert changed_settings(ranked(4), [longer]) == "sequence_length 512 here, 256 there"
    assert changed_settings(ranked(4), [ranked(8)]) is None
    # Also under a name that another scenario has for one of them.
    other = make_record(case={**case, "scenario": "lengths", "sequence_length": 256})
    assert changed_settings(ranked(4), [other]) is None
    shared = replace(other, also=(AlsoIn("ranks", ranked(4).name, (("adapter.rank", 4),)),))
    assert changed_settings(ranked(4), [shared]) == "sequence_length 512 here, 256 there"


def test_of_a_case_that_ran_twice_the_last_counts(results, ranked):
    again = ranked(4, memory=Memory(1, 2, 3))
    (pair,) = compare(results(ranked(4), again), results(ranked(4))).pairs
    assert pair.base.memory == again.memory
