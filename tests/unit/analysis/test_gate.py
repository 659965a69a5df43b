"""The gate's decision: what fails, what is only told, and that no order, no repetition and no other number matters."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorabench.analysis.gate import Baseline, Decision, Policy, decide, judge
from lorabench.analysis.gate.comparison import TIME_FLOOR
from lorabench.analysis.gate.tolerances import Tolerance
from lorabench.case import Adapter, Case
from lorabench.environment import Environment, EnvironmentDevice
from lorabench.record import AlsoIn, Memory, PhaseMemory, Record, RecordDevice, RecordError, Timing

H100 = EnvironmentDevice("fake", "NVIDIA H100 80GB HBM3", 85_520_809_984)
VERSIONS = {"python": "3.11.2", "torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2", "bitsandbytes": "0.50.2"}
STRICT = Policy(strict=True)
BYTES = st.integers(0, 2**50)


def environment(device: EnvironmentDevice = H100, **versions: str) -> Environment:
    return Environment(device, None, {**VERSIONS, **versions}, {}, {}, "", None, "0.1.0", id="here")


def record(rank: int = 4, memory: Memory | None = None, **changes) -> Record:
    case = Case(
        scenario="ranks",
        task="train",
        model="llama-tiny",
        adapter=Adapter(rank=rank),
        axes=(("adapter.rank", rank),),
    )
    fields = {
        "environment": "here",
        "key": case.key,
        "name": case.name,
        "scenario": "ranks",
        "group": None,
        "case": case.to_dict(),
        "status": "ok",
        "error": None,
        "source": "predicted",
        "seed": 0,
        "repeat": 0,
        "device": RecordDevice("fake", H100.name),
        "started_at": "2026-01-02T03:04:05+00:00",
        "wall_s": 1.0,
        "memory": memory if memory is not None else whole(),
    }
    return Record(**{**fields, **changes})


def whole(static: int = 1000, peak: int = 1500, forward: int = 1400, **categories: int) -> Memory:
    return Memory(
        static_bytes=static,
        dynamic_bytes=peak - static,
        peak_allocated_bytes=peak,
        peak_reserved_bytes=4096,
        phases={"forward": PhaseMemory(static, forward, forward), "backward": PhaseMemory(forward, peak, static)},
        categories=categories,
    )


def gate(base, head, policy: Policy = Policy(), tolerances=(), here: Environment | None = None) -> Decision:  # noqa: B008
    baseline = Baseline(tuple(base), {"here": environment()}, tuple(tolerances))
    return decide(baseline, list(head), {"here": here or environment()}, policy)


@st.composite
def memories(draw) -> Memory:
    phases = draw(st.dictionaries(st.sampled_from(["load", "forward", "backward"]), BYTES, max_size=3))
    return Memory(
        static_bytes=draw(st.none() | BYTES),
        dynamic_bytes=draw(st.none() | BYTES),
        peak_allocated_bytes=draw(BYTES),
        peak_reserved_bytes=draw(st.none() | BYTES),
        phases={name: PhaseMemory(0, peak, 0) for name, peak in phases.items()},
        categories=draw(st.dictionaries(st.sampled_from(["activations", "inputs", "allocator_slack"]), BYTES)),
    )


runs = st.lists(memories(), min_size=1, max_size=5).map(
    lambda found: [record(rank=4 + number, memory=memory) for number, memory in enumerate(found)]
)


def shifted(memory: Memory, by: int) -> list[Memory]:
    """``memory`` with each of its judged numbers changed in turn."""
    found = []
    for name in ("static_bytes", "dynamic_bytes", "peak_allocated_bytes"):
        if (n_bytes := getattr(memory, name)) is not None:
            found.append(replace(memory, **{name: n_bytes + by}))
    for name, phase in memory.phases.items():
        found.append(replace(memory, phases={**memory.phases, name: replace(phase, peak_bytes=phase.peak_bytes + by)}))
    for name, n_bytes in memory.categories.items():
        if name != "allocator_slack":
            found.append(replace(memory, categories={**memory.categories, name: n_bytes + by}))
    return found


@given(runs)
def test_the_same_results_pass_whatever_they_are(records):
    decision = gate(records, records, STRICT)
    assert (decision.verdict, decision.exit_code) == ("passed", 0)


@given(runs, st.data(), st.integers(1, 2**40))
def test_any_byte_more_in_any_number_of_any_case_fails(records, data, more):
    index = data.draw(st.integers(0, len(records) - 1))
    for memory in shifted(records[index].memory, more):
        head = [*records[:index], replace(records[index], memory=memory), *records[index + 1 :]]
        assert gate(records, head).exit_code == 1
        # And the same byte less passes, but for --strict.
        assert gate(head, records).exit_code == 0
        assert gate(head, records, STRICT).exit_code == 1


@given(runs, memories(), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_the_order_of_records_is_irrelevant(records, other, shuffler: random.Random):
    head = [replace(records[0], memory=other), *records[1:-1], record(rank=64)]
    mixed, mixed_head = list(records), list(head)
    shuffler.shuffle(mixed)
    shuffler.shuffle(mixed_head)
    assert gate(records, head) == gate(mixed, mixed_head)


def test_bytes_that_the_allocators_rounding_swallows_are_seen():
    base = record(memory=whole(activations=1000, allocator_slack=500))
    head = record(memory=whole(activations=1001, allocator_slack=499))
    decision = gate([base], [head])
    assert decision.exit_code == 1
    [number] = [number for number in decision.outcomes[0].numbers if number.change == "more"]
    assert (number.metric, number.difference) == ("memory.requested_bytes", 1)


def test_at_a_lower_peak_other_tensors_may_ask_for_more():
    base = record(memory=whole(activations=1000, allocator_slack=500))
    head = record(memory=whole(peak=1400, activations=1300, allocator_slack=100))
    assert gate([base], [head]).exit_code == 0


def test_reserved_and_device_used_are_told_and_never_judged():
    head = record(memory=replace(whole(), peak_reserved_bytes=9_000_000, device_used_bytes=3))
    decision = gate([record()], [head], STRICT)
    assert decision.exit_code == 0
    assert [(one.metric, one.base, one.head) for one in decision.outcomes[0].untold] == [
        ("memory.peak_reserved_bytes", 4096, 9_000_000),
        ("memory.device_used_bytes", None, 3),
    ]


@pytest.mark.parametrize(("policy", "code"), [(Policy(), 1), (Policy(allow_missing=True), 0)])
def test_a_lost_case_and_a_lost_phase_fail_unless_allowed(policy, code):
    both = [record(4), record(8)]
    assert gate(both, both[:1], policy).exit_code == code
    fewer = replace(whole(), phases={"forward": whole().phases["forward"]})
    decision = gate([record()], [record(memory=fewer)], policy)
    assert decision.exit_code == code
    assert [outcome.kind for outcome in decision.outcomes] == ["lost"]


def test_allowing_what_is_missing_allows_no_growth():
    fewer = replace(whole(peak=1501), phases={})
    assert gate([record()], [record(memory=fewer)], Policy(allow_missing=True)).exit_code == 1


@pytest.mark.parametrize(("policy", "code"), [(Policy(), 0), (STRICT, 1)])
def test_a_new_case_and_a_new_phase_are_told_and_fail_when_strict(policy, code):
    both = [record(4), record(8)]
    assert gate(both[:1], both, policy).exit_code == code
    more = replace(whole(), phases={**whole().phases, "prepare": PhaseMemory(0, 1, 0)})
    decision = gate([record()], [record(memory=more)], policy)
    assert (decision.exit_code, decision.outcomes[0].kind) == (code, "new")


@pytest.mark.parametrize("status", ["oom", "failed", "timeout", "invalid"])
@pytest.mark.parametrize("known", [True, False])
def test_a_case_that_no_longer_ends_ok_fails_before_all_else(status, known):
    ended = record(8, status=status, error=RecordError("OutOfMemoryError", "tried to allocate", "backward"))
    base = [record(4), record(8)] if known else [record(4)]
    decision = gate(base, [record(4, memory=whole(peak=9999)), ended], Policy(allow_missing=True))
    assert decision.exit_code == 1
    assert [outcome.kind for outcome in decision.outcomes] == ["not ok", "more"]


def test_what_grew_most_comes_first():
    base = [record(rank) for rank in (1, 2, 3)]
    head = [record(rank, memory=whole(peak=1500 + growth)) for rank, growth in ((1, 5), (2, 700), (3, 0))]
    assert [outcome.growth for outcome in gate(base, head).outcomes] == [700, 5, 0]


def test_a_tolerance_covers_both_directions_and_the_last_one_counts():
    general = Tolerance("*", 1_000_000)
    exact = Tolerance("memory.peak_allocated_bytes", 100, "ranks[adapter.rank=4]")
    for difference, code in ((100, 0), (-100, 0), (101, 1), (-101, 1)):
        head = record(memory=whole(peak=1500 + difference))
        assert gate([record()], [head], STRICT, (general, exact)).exit_code == code
        assert gate([record()], [head], STRICT, (exact, general)).exit_code == 0


@pytest.mark.parametrize("name", ["lengths[sequence_length=512]", "lengths[*"])
def test_a_tolerance_may_name_a_case_as_any_scenario_does(name):
    also = (AlsoIn("lengths", "lengths[sequence_length=512]", (("sequence_length", 512),)),)
    decision = gate([record()], [record(memory=whole(peak=1600), also=also)], STRICT, [Tolerance("*", 100, name)])
    assert (decision.exit_code, list(decision.remarks)) == (0, [])


def test_a_tolerance_that_covers_no_case_is_told():
    decision = gate([record()], [record()], tolerances=[Tolerance("*", 1, "ranks[adapter.rank=99]")])
    assert any("adapter.rank=99" in remark for remark in decision.remarks)


@pytest.mark.parametrize("library", ["torch", "transformers", "peft", "bitsandbytes"])
def test_other_versions_are_not_comparable_unless_asked_for(library):
    here = environment(**{library: "99.0"})
    decision = gate([record()], [record()], here=here)
    assert (decision.exit_code, decision.obstacles) == (
        3,
        (f"{library}: {VERSIONS[library]} in the baseline, 99.0 here",),
    )
    crossed = gate([record()], [record(memory=whole(peak=1501))], Policy(across_versions=True), here=here)
    assert (crossed.exit_code, len(crossed.crossed)) == (1, 1)


def test_other_libraries_are_told_and_a_predictions_torch_may_be_of_any_build():
    decision = gate([record()], [record()], here=environment(torch="2.13.0+cu130", python="3.12.1"))
    assert decision.exit_code == 0
    assert decision.remarks == ("python: 3.11.2 in the baseline, 3.12.1 here",)


def test_a_measurements_torch_must_be_of_the_same_build():
    card = EnvironmentDevice("cuda", "NVIDIA L4", 1)
    cases = [record(device=RecordDevice("cuda", "NVIDIA L4"), source="measured")]
    baseline = Baseline(tuple(cases), {"here": environment(card)})
    decision = decide(baseline, cases, {"here": environment(card, torch="2.13.0+cu130")}, Policy())
    assert decision.exit_code == 3


def on(name: str, **changes) -> Record:
    return record(device=RecordDevice("fake", name), environment=name, **changes)


def test_each_card_has_a_baseline_of_its_own_and_others_are_not_comparable():
    known = {name: environment(EnvironmentDevice("fake", name, 1)) for name in ("L4", "A10", "T4")}
    baseline = Baseline((on("A10", memory=whole(peak=1600)), on("L4")), known)
    assert decide(baseline, [on("L4"), on("A10", memory=whole(peak=1600))], known, STRICT).exit_code == 0
    assert decide(baseline, [on("A10", memory=whole(peak=1600))], known, Policy()).exit_code == 1
    # A third card beside the two is a new case; in the place of one it is other hardware.
    three = [on("L4"), on("A10", memory=whole(peak=1600)), on("T4")]
    assert decide(baseline, three, known, Policy()).exit_code == 0
    two = decide(baseline, [on("L4"), on("T4")], known, Policy())
    assert (two.exit_code, two.obstacles) == (3, ("device: fake (A10) in the baseline, fake (T4) here",))
    across = decide(baseline, [on("L4"), on("T4")], known, Policy(across_versions=True))
    assert (across.exit_code, across.outcomes[0].kind) == (0, "fewer")


def test_with_no_case_in_common_other_hardware_is_named_before_cases_are_lost():
    known = {name: environment(EnvironmentDevice("fake", name, 1)) for name in ("L4", "A10")}
    other = replace(on("A10"), key="another", name="another")
    decision = decide(Baseline((on("L4"),), known), [other], known, Policy())
    assert (decision.exit_code, decision.obstacles) == (3, ("device: fake (L4) in the baseline, fake (A10) here",))


def test_predicted_and_measured_are_never_compared():
    measured = record(source="measured", device=RecordDevice("cuda", H100.name))
    for policy in (Policy(), Policy(across_versions=True)):
        decision = gate([record()], [measured], policy)
        assert (decision.exit_code, decision.obstacles) == (
            3,
            ("source: predicted in the baseline, measured here",),
        )


def test_a_gate_that_compared_nothing_does_not_pass():
    nothing = record(memory=None, latency={})
    assert gate([replace(nothing, memory=None)], [replace(nothing, memory=None)]).exit_code == 3
    assert gate([record(4)], [record(8)], Policy(allow_missing=True)).exit_code == 3
    assert judge(None, [record()], {"here": environment()}, Policy(), "b.jsonl").exit_code == 3
    empty = Baseline((), {"here": environment()})
    assert judge(empty, [record()], {"here": environment()}, Policy(), "b.jsonl").exit_code == 3


def timing(median_s: float, spread: float) -> dict[str, Timing]:
    return {"step": Timing((), median_s, (median_s * (1 - spread), median_s * (1 + spread)), unstable=False)}


@pytest.mark.parametrize(
    ("head", "spread", "told"),
    [(2.0, 0.01, 1), (0.5, 0.01, 1), (2.0, 0.9, 0), (1 + TIME_FLOOR / 2, 0.001, 0), (1 + 2 * TIME_FLOOR, 0.001, 1)],
)
def test_a_time_is_a_warning_where_intervals_are_apart_and_never_fails(head, spread, told):
    decision = gate([record(latency=timing(1.0, spread))], [record(latency=timing(head, spread))], STRICT)
    assert decision.exit_code == 0
    assert len(decision.outcomes[0].times) == told


def test_what_is_behind_a_growth_is_named_from_the_largest_on():
    modules = [{"layer.0": {"activations": 500}, "layer.1": {"activations": n, "inputs": 1}} for n in (500, 503)]
    base, head = (
        record(
            memory=whole(peak=peak, activations=peak - 100, inputs=100 - shrunk),
            observations={"attribution": {"modules": found}},
        )
        for peak, shrunk, found in ((1500, 0, modules[0]), (1503, 4, modules[1]))
    )
    [outcome] = gate([base], [head]).outcomes
    assert [(one.name, one.difference) for one in outcome.categories] == [("activations", 3), ("inputs", -4)]
    assert [(one.name, one.difference) for one in outcome.modules] == [("layer.1", 3)]


MISSHAPEN = [None, 3, [], {"modules": 3}, {"modules": {"a": 3}}, {"modules": {"a": {"b": "c"}}}]


@pytest.mark.parametrize("attribution", MISSHAPEN)
def test_modules_of_another_shape_are_none(attribution):
    head = record(memory=whole(peak=1501), observations={"attribution": attribution})
    assert gate([head], [head]).exit_code == 0
