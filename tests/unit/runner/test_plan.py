from __future__ import annotations

from dataclasses import replace

import pytest

from lorabench.case import Case, Measure
from lorabench.runner.launcher import Work
from lorabench.runner.plan import plan

DEVICE = "Imaginary CPU"


def case(seed, repeats=1, group=None, scenario="scenario"):
    return Case(scenario, "train", "llama-tiny", seed=seed, measure=Measure(repeats=repeats), group=group)


def identity(case, repeat=0):
    return (case.key, DEVICE, case.seed, repeat, case.group)


def test_each_case_is_a_work_of_its_own():
    cases = [case(seed) for seed in range(5)]
    works = plan(cases, device_name=DEVICE)
    assert sorted(works, key=lambda work: work.cases[0].seed) == [Work((one,)) for one in cases]
    assert not any(work.grouped for work in works)


def test_a_group_stays_together_wherever_its_cases_stand():
    cases = [case(0, group="a"), case(1), case(2, group="b"), case(3, group="a")]
    groups = [work.cases for work in plan(cases, device_name=DEVICE) if work.grouped]
    assert sorted(groups, key=len) == [(cases[2],), (cases[0], cases[3])]


def test_rounds_take_those_that_have_repeats_left():
    works = plan([case(0, repeats=1), case(1, repeats=3)], device_name=DEVICE)
    assert sorted((work.repeat, work.cases[0].seed) for work in works) == [(0, 0), (0, 1), (1, 1), (2, 1)]
    assert [work.repeat for work in works] == [0, 0, 1, 2]


def test_a_round_is_shuffled_by_the_seed():
    cases = [case(seed, repeats=2) for seed in range(20)]

    def order(seed, repeat):
        works = plan(cases, device_name=DEVICE, seed=seed)
        return [work.cases[0].seed for work in works if work.repeat == repeat]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != sorted(order(0, 0))


def test_without_repeats_there_is_one_round():
    works = plan([case(0, repeats=5), case(1)], device_name=DEVICE, repeated=False)
    assert [work.repeat for work in works] == [0, 0]


def test_a_shared_case_runs_once_and_as_often_as_one_of_its_scenarios_asks():
    works = plan([case(0), case(0, repeats=2, scenario="other")], device_name=DEVICE)
    assert [(work.cases[0].scenario, work.repeat) for work in works] == [("scenario", 0), ("other", 1)]


def test_finished_cases_are_left_out_by_repeat():
    one = case(0, repeats=2)
    works = plan([one, case(1)], device_name=DEVICE, finished={identity(one, 0)})
    assert sorted((work.cases[0].seed, work.repeat) for work in works) == [(0, 1), (1, 0)]


def test_finished_elsewhere_is_not_finished_here():
    finished = {(*identity(case(0))[:1], "Other CPU", *identity(case(0))[2:])}
    assert len(plan([case(0)], device_name=DEVICE, finished=finished)) == 1


@pytest.mark.parametrize(("finished_members", "works"), [(1, 1), (2, 0)])
def test_a_group_is_left_out_only_as_a_whole(finished_members, works):
    group = [case(0, group="a"), case(1, group="a")]
    finished = {identity(one) for one in group[:finished_members]}
    planned = plan(group, device_name=DEVICE, finished=finished)
    assert len(planned) == works
    assert all(work.cases == tuple(group) for work in planned)


def test_seeds_make_cases_of_their_own():
    assert len(plan([case(0), replace(case(0), seed=1)], device_name=DEVICE)) == 2


def test_nothing_is_planned_of_nothing():
    assert plan([], device_name=DEVICE) == []
    assert plan([], device_name=DEVICE, repeated=False) == []
