"""What several scenarios share is measured once and keeps all of its names."""

from __future__ import annotations

from dataclasses import replace

from lorabench.case import case_from_dict
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
    assert replace(other, name=record.name, scenario=record.scenario, case=record.case) == record
