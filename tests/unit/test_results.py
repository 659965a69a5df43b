"""Reading results: what was written comes back, and nothing that a file can hold is more than a one-line error."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorabench.errors import ResultsError
from lorabench.record import SCHEMA, AlsoIn, Gradients, Proof, RecordError
from lorabench.results import MalformedError, read_results, record_from_dict

RECORD_LINE = 2


def line(part):
    return json.dumps(part.to_dict()) + "\n"


def plain(records):
    """As JSON has it, where tuples are lists."""
    return [json.loads(line(record)) for record in records]


@pytest.fixture
def write(tmp_path, environment):
    def write_file(*parts, name="results.jsonl", environments=(environment,)):
        path = tmp_path / name
        texts = [*map(line, environments), *(part if isinstance(part, str | bytes) else line(part) for part in parts)]
        path.write_bytes(b"".join(text if isinstance(text, bytes) else text.encode() for text in texts))
        return path

    return write_file


@pytest.fixture
def refusal(write):
    """The error of a file whose second line is the given one, without the file's name."""

    def refuse(text):
        path = write(text)
        with pytest.raises(ResultsError) as refused:
            read_results(path)
        message = str(refused.value)
        assert message.isprintable()
        assert len(message) < 500
        assert message.startswith(f"{path}:{RECORD_LINE}: ")
        return message.removeprefix(f"{path}:{RECORD_LINE}: ")

    return refuse


def changed(record, **keys):
    """The record's line with some keys replaced; a key may lead inside, as in ``memory__static_bytes``."""
    data = record.to_dict()
    for path, value in keys.items():
        *folders, last = path.split("__")
        inner = data
        for folder in folders:
            inner = inner[folder]
        inner[last] = value
    return json.dumps(data) + "\n"


def test_what_was_written_comes_back(write, environment, make_record, failed_record):
    proof = Proof(
        quantized_modules=3,
        adapter_gradients=Gradients(8, 8, 7),
        attention_kernels=("sdpa",),
        outlier_share={"down_proj": 0.25},
        seeds={"torch": 0},
    )
    records = [make_record(), make_record(proof=proof, observations={"losses": [2.5, None]}), failed_record]
    results = read_results(write(*records))
    assert plain(results.records) == plain(records)
    assert results.environments == {environment.id: environment}
    assert not results.warnings


def test_a_record_without_a_tokens_rate_comes_back(make_record):
    record = make_record(tokens_per_s=None)
    assert plain([record_from_dict(record.to_dict())]) == plain([record])


def test_the_last_record_of_an_identity_wins_in_the_first_ones_place(write, make_record):
    first, other = make_record(wall_s=1.0), make_record(case={"seed": 1})
    last = make_record(wall_s=2.0)
    assert plain(read_results(write(first, other, last)).latest()) == plain([last, other])


def test_the_last_record_keeps_the_names_of_those_before(write, make_record):
    first = make_record(wall_s=1.0, also=(AlsoIn("third", "third"),))
    plain = AlsoIn("plain", "plain[batch_size=1]", (("batch_size", 1),))
    [latest] = read_results(write(first, make_record({"scenario": "plain", "axes": plain.axes}, wall_s=2.0))).latest()
    assert (latest.name, latest.wall_s) == (plain.name, 2.0)
    assert latest.also == (AlsoIn("ranks", "ranks[adapter.rank=4]", (("adapter.rank", 4),)), AlsoIn("third", "third"))
    [latest] = read_results(write(first, make_record(wall_s=3.0, also=(plain,)))).latest()
    assert latest.also == (plain, AlsoIn("third", "third"))


def test_a_prediction_does_not_replace_a_measurement(write, make_record):
    measured = make_record()
    predicted = replace(measured, source="predicted")
    assert plain(read_results(write(measured, predicted)).latest()) == plain([measured, predicted])


@pytest.mark.parametrize(
    ("statuses", "finished"),
    [
        (["ok"], True),
        (["oom"], True),
        (["invalid"], True),
        (["failed"], False),
        (["timeout"], False),
        (["failed", "ok"], True),
        (["ok", "failed"], False),
    ],
)
def test_finished_is_what_ended_with_an_answer(write, make_record, statuses, finished):
    error = RecordError("Error", "why")
    records = [make_record(status=status, error=None if status == "ok" else error) for status in statuses]
    assert read_results(write(*records)).finished() == ({records[0].identity} if finished else set())


def test_files_are_read_as_if_they_were_one(write, environment, make_record):
    elsewhere = replace(environment, id="elsewhere", driver="580.1")
    one = write(make_record(), name="one.jsonl")
    two = write(make_record(environment="elsewhere"), name="two.jsonl", environments=(elsewhere,))
    both = read_results(one, two)
    assert set(both.environments) == {environment.id, "elsewhere"}
    assert len(both.records) == 2
    joined = one.with_name("joined.jsonl")
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    assert read_results(joined) == both


@pytest.mark.parametrize("kept_share", [0.01, 0.5, 0.99])
def test_a_torn_last_line_is_said_and_skipped(write, make_record, kept_share):
    whole = line(make_record(wall_s=2.0))
    path = write(make_record(), whole[: int(len(whole) * kept_share)])
    results = read_results(path)
    assert len(results.records) == 1
    [warning] = results.warnings
    assert warning == f"{path}:3: the last line is torn (a run was killed) and was skipped"


def test_a_last_line_torn_inside_a_character_is_skipped(write, make_record):
    assert len(read_results(write(make_record(), '{"name": "é'.encode()[:-1])).warnings) == 1


def test_a_whole_last_line_counts_without_its_end(write, make_record):
    results = read_results(write(line(make_record()).rstrip("\n")))
    assert len(results.records) == 1
    assert not results.warnings


def test_empty_lines_and_foreign_line_ends_do_no_harm(write, make_record):
    text = line(make_record())
    assert len(read_results(write("\n", text.replace("\n", "\r\n"), "  \n", text)).records) == 2


def test_a_byte_order_mark_does_no_harm(write, make_record):
    path = write(make_record())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    joined = path.with_name("joined.jsonl")
    joined.write_bytes(path.read_bytes() * 2)
    assert plain(read_results(path).records) == plain([make_record()])
    assert plain(read_results(joined).records) == plain([make_record()] * 2)


def test_a_newer_schema_is_refused(refusal, make_record):
    assert refusal(changed(make_record(), schema=SCHEMA + 1)) == (
        f"schema: {SCHEMA + 1} is newer than {SCHEMA}, the newest known here: upgrade lorabench"
    )


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"wall_s": "2.5"}, "wall_s"),
        ({"wall_s": None}, "wall_s"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"schema": "1"}, "schema"),
        ({"status": "fine"}, "status"),
        ({"device": "cpu"}, "device"),
        ({"memory__static_bytes": "many"}, "memory.static_bytes"),
        ({"memory__phases__forward": {}}, "memory.phases.forward"),
        ({"latency__step__samples_s": [0.1, "x"]}, "latency.step.samples_s"),
        ({"latency": []}, "latency"),
        ({"case": {}}, "case.scenario"),
        ({"case__adapter__rank": "eight"}, "case.adapter.rank"),
        ({"observations": [1]}, "observations"),
    ],
)
def test_a_wrong_type_is_refused_with_its_key(refusal, make_record, change, key):
    assert refusal(changed(make_record(), **change)).startswith(key)


def test_a_missing_key_is_refused(refusal, make_record):
    data = make_record().to_dict()
    del data["key"]
    assert refusal(json.dumps(data) + "\n").startswith("key: ")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 30, "9" * 100_000, str(2**63)])
def test_numbers_out_of_range_are_refused(refusal, make_record, number):
    message = refusal(line(make_record()).replace("2.5", number))
    assert "is not JSON" in message or "out of range" in message


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe\n",
        b"nonsense\n",
        b"[]\n",
        b"1\n",
        b"null\n",
        b'"record"\n',
        b"{}\n",
        b'{"type": 7}\n',
        b'{"type": "recording\x1b[31m"}\n',
        b'{"type": "record"}\n',
        b'{"type": "environment"}\n',
        b"[" * 200_000 + b"\n",
        b'{"type":' * 50_000 + b"\n",
        b"\x00" * 100 + b"\n",
        b'{"type": "record", "schema": 1e400}\n',
        b'{"type": "record", "name": "\\ud800"}\n',
        b"x" * (17 << 20) + b"\n",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_hostile_lines_are_refused_in_one_line(refusal, text):
    assert refusal(text)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"name": "half \ud800 of it"}, "name"),
        ({"observations__note": ["\udc00"]}, "observations"),
        ({"observations": {"\udfff": 1}}, "observations"),
        ({"case__model": "\ud800"}, "case"),
    ],
)
def test_half_a_surrogate_pair_is_refused_with_its_key(refusal, make_record, change, key):
    message = refusal(changed(make_record(), **change))
    assert message == f"{key}: holds half a surrogate pair: a results file is UTF-8 text"


def test_a_whole_surrogate_pair_is_a_character(write, make_record):
    [record] = read_results(write(changed(make_record(), name="\U0001f600"))).records
    assert record.name == "\U0001f600"


def test_what_is_nested_deeper_than_a_record_is_refused(refusal, make_record):
    deep = json.loads("[" * 400 + "]" * 400)
    message = refusal(changed(make_record(), observations__note=deep))
    assert message == "nested too deeply: not a line of a results file"


def test_a_key_from_the_file_cannot_disturb_the_terminal(refusal, make_record):
    message = refusal(changed(make_record(), memory__phases={"\x1b[2J\nforward" * 50: 1}))
    assert "\x1b" not in message


@pytest.mark.parametrize("content", [b"", b"\n\n", b'{"torn'])
def test_a_file_without_an_environment_is_refused(tmp_path, content):
    path = tmp_path / "results.jsonl"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match="no environment line"):
        read_results(path)


def test_a_record_of_an_unknown_environment_is_refused(write, make_record):
    with pytest.raises(ResultsError, match="names environment 'elsewhere'"):
        read_results(write(make_record(environment="elsewhere")))


def test_files_that_cannot_be_read_are_refused(tmp_path):
    for path in (tmp_path / "missing.jsonl", tmp_path):
        with pytest.raises(ResultsError, match="cannot be read") as refused:
            read_results(path)
        assert str(path) in str(refused.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_record_with_anything_anywhere_is_accepted_or_refused(make_record, data):
    whole = make_record().to_dict()
    inner = whole
    while True:
        key = data.draw(st.sampled_from(sorted(inner)))
        if not isinstance(inner[key], dict) or not inner[key] or data.draw(st.booleans()):
            break
        inner = inner[key]
    inner[key] = data.draw(json_values)
    message = ""
    try:
        record = record_from_dict(json.loads(json.dumps(whole)))
    except MalformedError as error:
        message = str(error)
    else:
        assert plain([record_from_dict(record.to_dict())]) == plain([record])
    assert message.isprintable()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mangled_file_is_read_or_refused(write, make_record, data):
    path = write(make_record(), make_record())
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position : position + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=30))
    path.write_bytes(bytes(content))
    message = ""
    try:
        read_results(path)
    except ResultsError as error:
        message = str(error)
    assert message.isprintable()
