"""A results file becomes a table whose every column is documented, typed and where the record says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import lorabench
from lorabench.analysis import columns
from lorabench.analysis.columns import COLUMNS
from lorabench.analysis.frame import frame
from lorabench.case import Adapter, Case
from lorabench.errors import InputError
from lorabench.record import AlsoIn, Memory, Proof, Timing


@pytest.fixture
def write_results(tmp_path: Path, environment):
    def write(*records: Any, name: str = "results.jsonl") -> Path:
        path = tmp_path / name
        lines = [environment.to_dict(), *(record.to_dict() for record in records)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    return write


def test_every_column_is_documented_and_in_order(write_results, make_record):
    table = lorabench.load(write_results(make_record()))
    assert list(table.columns) == list(COLUMNS)
    assert all(column.description and not column.description.endswith(".") for column in COLUMNS.values())
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == {
        name: column.dtype for name, column in COLUMNS.items()
    }


@pytest.mark.parametrize("name", [name for name in COLUMNS if name.endswith("_bytes")])
def test_bytes_are_whole_numbers(name):
    assert COLUMNS[name].dtype == columns.COUNT


@pytest.mark.parametrize(
    ("kind", "section", "elsewhere"),
    [
        # Schedule and naming say nothing of what was measured; the seed is part of a record's identity.
        (Case, columns.SETTINGS, {"scenario", "adapter", "seed", "measure", "axes", "group"}),
        (Adapter, columns.ADAPTER, set()),
        # Mappings and what they hold are read from the record itself.
        (Memory, columns.MEMORY, {"phases", "categories"}),
    ],
)
def test_no_setting_is_forgotten(kind, section, elsewhere):
    assert set(section) == {field.name for field in dataclasses.fields(kind)} - elsewhere


def test_proof_columns_are_fields():
    assert set(columns.PROOF) <= {field.name for field in dataclasses.fields(Proof)}


def test_values_are_those_of_the_record(write_results, make_record, environment):
    row = lorabench.load(write_results(make_record())).iloc[0]
    assert row["memory_static_bytes"] == 100 * 2**20
    assert row["memory_forward_peak_bytes"] == 140 * 2**20
    assert row["step_median_s"] == 0.011
    assert (row["step_ci95_low_s"], row["step_ci95_high_s"]) == (0.0105, 0.0118)
    assert row["step_samples"] == 3
    assert not row["step_unstable"]
    assert row["tokens_per_s"] == 46545.45
    assert row["adapter_rank"] == 4
    assert row["adapter_target_modules"] == "q_proj+v_proj"
    assert row["adapter_options"] == "{}"
    assert row["torch_version"] == environment.versions["torch"]
    assert row["device_total_bytes"] == environment.device.total_bytes
    assert row["trainable_parameters"] == 4096


def test_a_case_that_scenarios_share_has_one_row_with_all_names(write_results, make_record):
    others = (AlsoIn("lengths", "lengths[sequence_length=512]"), AlsoIn("plain", "plain"))
    table = lorabench.load(write_results(make_record(also=others), make_record({"seed": 1})))
    assert table["name"].tolist() == ["ranks[adapter.rank=4]"] * 2
    assert table["also"].iloc[0] == "lengths[sequence_length=512]; plain"
    assert pd.isna(table["also"].iloc[1])


def test_a_scenario_is_loaded_with_the_cases_that_others_ran_for_it(write_results, make_record):
    length = AlsoIn("lengths", "lengths[sequence_length=512]", (("sequence_length", 512),))
    path = write_results(
        make_record(also=(length,)), make_record({"scenario": "lengths", "sequence_length": 64, "axes": ()})
    )
    table = lorabench.load(path, scenario="lengths")
    assert table["name"].tolist() == ["lengths[sequence_length=512]", "lengths"]
    assert table["sequence_length"].tolist() == [512, 64]
    assert table["also"].iloc[0] == "ranks[adapter.rank=4]"
    assert lorabench.load(path, scenario="ranks")["name"].tolist() == ["ranks[adapter.rank=4]"]
    with pytest.raises(InputError, match=r"no record is of the scenario 'length' \(did you mean 'lengths'\?\)"):
        lorabench.load(path, scenario="length")


def test_what_a_record_lacks_is_missing(write_results, failed_record):
    row = lorabench.load(write_results(failed_record)).iloc[0]
    assert (row["status"], row["error_type"], row["error_phase"]) == ("failed", "RuntimeError", "forward")
    for name in ("memory_static_bytes", "step_median_s", "step_unstable", "tokens_per_s", "trainable_parameters"):
        assert pd.isna(row[name]), name
    assert pd.isna(row["driver"])


def test_a_case_without_an_adapter_has_no_adapter_settings(make_record, environment):
    table = frame([make_record(case={"adapter": None})], {environment.id: environment})
    assert table[[f"adapter_{name}" for name in columns.ADAPTER]].isna().all(axis=None)


def test_an_integer_beside_a_missing_value_stays_exact(make_record, failed_record, environment):
    big = 2**53 + 1
    records = [make_record(memory=Memory(static_bytes=big)), failed_record]
    assert frame(records, {environment.id: environment})["memory_static_bytes"][0] == big


def test_a_phase_without_a_column_is_left_out(make_record, environment):
    timing = Timing((1.0,), 1.0, (1.0, 1.0), unstable=False)
    table = frame([make_record(latency={"rehearsal": timing})], {environment.id: environment})
    assert list(table.columns) == list(COLUMNS)


def test_several_files_are_one_table_and_the_last_record_of_a_case_counts(write_results, make_record, failed_record):
    again = dataclasses.replace(failed_record, status="ok", error=None)
    first = write_results(make_record(), failed_record, name="first.jsonl")
    second = write_results(again, name="second.jsonl")
    assert list(lorabench.load([first, str(second)])["status"]) == ["ok", "ok"]


def test_no_records_still_give_all_columns():
    assert list(frame([], {}).columns) == list(COLUMNS)
