"""What several scenarios share is measured once and keeps all of its names."""

from __future__ import annotations

from dataclasses import replace

from lorabench.case import Measure, case_from_dict
from lorabench.record import AlsoIn
from lorabench.results import record_from_dict
from lorabench.runner.naming import Naming


def test_a_record_has_the_names_of_all_scenarios_that_ask_for_its_case(make_record):
    record = make_record()
    rank = case_from_dict(record.case)
    lengths = replace(rank, scenario="lengths", axes=(("sequence_length", 512),))
    targets = replace(rank, scenario="targets", axes=(("adapter.target_modules", ("q_proj", "v_proj")),))
    named = Naming([lengths, rank, targets, lengths]).named(record)
    assert replace(named, also=()) == record
    assert named.also == (
        AlsoIn("lengths", "lengths[sequence_length=512]", (("sequence_length", 512),)),
        AlsoIn(
            "targets",
            "targets[adapter.target_modules=q_proj+v_proj]",
            (("adapter.target_modules", ["q_proj", "v_proj"]),),
        ),
    )
    assert record_from_dict(named.to_dict()).also == named.also
    assert Naming([rank, lengths, targets]).named(named) == named


def test_names_are_added_to_those_that_a_record_has(make_record):
    record = make_record()
    rank = case_from_dict(record.case)
    first, second = replace(rank, scenario="first"), replace(rank, scenario="second")
    named = Naming([second]).named(Naming([first]).named(record))
    assert [other.scenario for other in named.also] == ["first", "second"]
    assert named.names == ("ranks[adapter.rank=4]", "first[adapter.rank=4]", "second[adapter.rank=4]")


def test_a_scenario_keeps_the_name_that_it_had(make_record):
    """Its file was edited since: no record stands in one table twice."""
    record = make_record()
    rank = case_from_dict(record.case)
    named = Naming([replace(rank, axes=()), replace(rank, scenario="other")]).named(record)
    assert [other.name for other in named.also] == ["other[adapter.rank=4]"]
    edited = replace(rank, scenario="other", axes=())
    assert Naming([edited, rank]).named(named) == named


def test_settings_that_do_not_matter_are_those_of_each_scenario(make_record):
    record = make_record({"measure": Measure(steps=7)})
    bf16 = replace(
        case_from_dict(record.case), scenario="thresholds", int8_threshold=3.0, axes=(("int8_threshold", 3.0),)
    )
    named = Naming([replace(bf16, measure=Measure(steps=99))]).named(record)
    assert named.also[0].settings == {"int8_threshold": 3.0}
    own, other = named.in_each_scenario()
    assert (own.case["int8_threshold"], other.case["int8_threshold"]) == (6.0, 3.0)
    # The steps are those that ran.
    assert other.case["measure"]["steps"] == 7
    # And back again.
    assert other.also[0].settings == {"int8_threshold": 6.0}
    assert case_from_dict(other.in_each_scenario()[1].case) == case_from_dict(record.case)


def test_a_case_of_another_key_seed_or_group_is_none_of_a_records(make_record):
    rank = case_from_dict(make_record().case)
    others = [replace(rank, scenario="other", **{name: value}) for name, value in OTHER.items()]
    assert Naming(others).named(make_record()).also == ()


OTHER = {"batch_size": 9, "seed": 1, "group": "other#1"}


def test_a_record_stands_in_each_scenario(make_record):
    rank = case_from_dict(make_record().case)
    record = Naming([replace(rank, scenario="lengths", axes=(("sequence_length", 512),))]).named(make_record())
    own, other = record.in_each_scenario()
    assert own == record
    assert (other.name, other.scenario) == ("lengths[sequence_length=512]", "lengths")
    case = case_from_dict(other.case)
    assert (case.name, case.key) == (other.name, record.key)
    assert [one.name for one in other.also] == [record.name]
    assert replace(other, name=own.name, scenario=own.scenario, case=own.case, also=own.also) == own


def test_a_file_may_name_a_scenario_twice(make_record):
    twice = AlsoIn("lengths", "lengths[a]"), AlsoIn("lengths", "lengths[b]"), AlsoIn("ranks", "ranks[adapter.rank=4]")
    views = make_record(also=twice).in_each_scenario()
    assert [view.name for view in views] == ["ranks[adapter.rank=4]", "lengths[a]"]
    assert [[one.name for one in view.also] for view in views] == [["lengths[a]"], ["ranks[adapter.rank=4]"]]
    assert [view.also for view in make_record(also=twice[2:]).in_each_scenario()] == [()]
