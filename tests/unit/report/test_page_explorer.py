"""What the page carries for its explorer: rows that say what the records say, whole records as they were written."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorabench.analysis.frame import frame
from lorabench.case import Adapter
from lorabench.record import AlsoIn, Record, RecordError
from lorabench.report.page.explorer import Packed, pack
from lorabench.report.page.material import Material, gather
from lorabench.results import Results, record_from_dict

PLENTY = 10_000_000


def unpacked(text: str):
    return json.loads(gzip.decompress(base64.b64decode(text)))


@pytest.fixture
def material(environment):
    def make(*records: Record, path: str = "results/fresh.jsonl") -> Material:
        return gather([Results({environment.id: environment}, list(records), [], Path(path))], [])

    return make


def packed(material: Material, cited: frozenset[str] = frozenset(), most_bytes: int = PLENTY) -> Packed:
    table = frame([entry.record for entry in material.entries], material.environments)
    return pack(material, table, cited, most_bytes)


def test_rows_say_what_the_records_say(material, make_record, failed_record):
    rows = unpacked(packed(material(make_record(), failed_record)).rows)
    assert rows["name"] == ["ranks[adapter.rank=4]", "ranks[adapter.rank=8]"]
    assert rows["values"]["memory_static_bytes"] == [100 * 2**20, None]
    assert rows["values"]["step_median_s"] == [0.011, None]
    assert rows["values"]["adapter_rank"] == [4, 8]
    assert rows["values"]["status"] == ["ok", "failed"]
    assert rows["error"] == [None, "RuntimeError: no such kernel"]


def test_columns_are_described_and_those_without_a_value_left_out(material, make_record):
    columns = {column["name"]: column for column in unpacked(packed(material(make_record())).rows)["columns"]}
    assert "memory_device_used_bytes" not in columns
    static = columns["memory_static_bytes"]
    assert (static["label"], static["kind"], static["shown"]) == ("static", "bytes", True)
    assert "weights" in static["description"]
    assert columns["step_median_s"]["kind"] == "seconds"
    assert not columns["step_ci95_low_s"]["offered"]


def test_what_scenarios_share_stands_in_each_in_reading_order(material, make_record):
    def ranks(*values: int, **options: Any) -> list[Record]:
        return [
            make_record({"adapter": Adapter(rank=rank), "axes": (("adapter.rank", rank),)}, **options)
            for rank in values
        ]

    lengths = make_record(
        {"scenario": "lengths", "axes": (("sequence_length", 512),)},
        also=(AlsoIn("ranks", "ranks[adapter.rank=4]", (("adapter.rank", 4),)),),
    )
    [last] = ranks(128, also=(AlsoIn("whole", "whole[adapter=lora]", (("adapter", "lora"),)),))
    rows = unpacked(packed(material(*ranks(2, 8), last, lengths)).rows)
    assert rows["name"] == ["lengths[sequence_length=512]", *(f"ranks[adapter.rank={rank}]" for rank in (2, 8, 128))]
    assert rows["also"] == [
        {"row": 0, "before": 2, "scenario": "ranks", "name": "ranks[adapter.rank=4]", "label": "4"},
        {"row": 3, "before": 4, "scenario": "whole", "name": "whole[adapter=lora]", "label": "lora"},
    ]
    assert rows["values"]["also"] == ["ranks[adapter.rank=4]", None, None, "whole[adapter=lora]"]


def test_the_device_is_shown_where_there_are_several(material, make_record):
    def shown(*records: Record) -> bool:
        columns = unpacked(packed(material(*records)).rows)["columns"]
        return next(column["shown"] for column in columns if column["name"] == "device")

    other = make_record(source="predicted")
    assert not shown(make_record())
    assert shown(make_record(), other)


def test_a_record_comes_back_as_it_was(material, make_record):
    record = make_record(observations={"losses": [7.25, None]})
    made = packed(material(record))
    (place,) = made.places
    assert place is not None
    chunk, position = place
    data = unpacked(made.chunks[chunk])[position]
    assert data == json.loads(json.dumps(record.to_dict()))
    assert record_from_dict(data).key == record.key


def test_a_packed_text_cannot_end_a_script(material, make_record):
    made = packed(material(make_record(name="</script><script>alert(1)</script>")))
    assert "<" not in made.rows + "".join(made.chunks)
    assert unpacked(made.rows)["name"] == ["</script><script>alert(1)</script>"]


def test_what_fits_goes_first_to_failures_and_evidence(material, make_record):
    # Random digits: what compresses well would all fit.
    noise = [str(hash((n, m))) for n in range(240) for m in range(60)]
    records = [
        make_record(seed=n, key=f"{n:016x}", observations={"noise": noise[60 * n : 60 * n + 60]}) for n in range(240)
    ]
    failed = replace(records[200], status="failed", error=RecordError("E", "m"))
    records[200] = failed
    cited = frozenset({records[150].key})
    made = packed(material(*records), cited, most_bytes=100_000)
    assert 0 < made.whole < made.shown == made.records == 240
    whole = {index for index, place in enumerate(made.places) if place is not None}
    order = [entry.record.key for entry in material(*records).entries]
    assert {order.index(failed.key), order.index(records[150].key)} <= whole
    assert len(made.rows) + sum(map(len, made.chunks)) <= 100_000


def test_rows_that_do_not_fit_are_left_out_and_counted(material, make_record):
    records = [make_record(seed=n, name="".join(str(hash((n, m))) for m in range(300))) for n in range(64)]
    made = packed(material(*records), most_bytes=100_000)
    assert 0 < made.shown < 64
    assert made.records == 64
    assert len(unpacked(made.rows)["id"]) == made.shown


def test_no_record_at_all(material):
    made = packed(material())
    assert (made.records, made.shown, made.whole) == (0, 0, 0)
    assert unpacked(made.rows)["id"] == []
