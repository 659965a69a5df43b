"""Whatever a file holds, the loader answers with valid cases or with one line."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from lorabench.case import case_from_dict
from lorabench.errors import InputError
from lorabench.scenario import load_scenarios
from lorabench.scenario.schema import VARIABLE_KEYS

SHIPPED = [path.read_bytes() for path in sorted((Path(__file__).parents[3] / "scenarios").glob("*.yaml"))]
HEAD = {"scenario": "s", "question": "What?", "task": "train", "model": "llama-tiny"}
KEYS = [*HEAD, *VARIABLE_KEYS, "measure", "matrix", "exclude", "include", "interleave", "devices", "cpu", "cuda"]


def times(examples: int) -> settings:
    """Without a deadline: a loaded machine is no bug."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mangled") / "s.yaml"


def check(file: Path, content: bytes, device: str = "cpu", overrides: tuple[str, ...] = ()) -> None:
    file.write_bytes(content)
    try:
        scenarios = load_scenarios([file], device, overrides=overrides)
    except InputError as error:
        said = str(error)
        scenarios = []
    else:
        said = ""
    assert not said or said.isprintable(), "an error must be one line without control characters"
    for scenario in scenarios:
        assert scenario.cases
        for case in scenario.cases[:20]:
            data = json.loads(json.dumps(case.to_dict(), allow_nan=False))
            back = case_from_dict(data)
            assert back == case
            assert back.key == case.key
            assert case.name.isprintable()


shipped = st.sampled_from(SHIPPED)
devices = st.sampled_from(["cpu", "cuda", "fake"])


@times(700)
@given(content=shipped, seed=st.integers(0, 2**32), changes=st.integers(1, 3), device=devices)
def test_mutated_bytes(file: Path, content: bytes, seed: int, changes: int, device: str) -> None:
    dice = random.Random(seed)
    mangled = bytearray(content)
    for _ in range(changes):
        position = dice.randrange(len(mangled))
        kind = dice.randrange(4)
        if kind == 0:
            mangled[position] = dice.randrange(32, 127) if dice.random() < 0.9 else dice.randrange(256)
        elif kind == 1:
            del mangled[position : position + dice.randrange(1, 12)]
        elif kind == 2:
            mangled[position:position] = dice.choice(
                [b"\n", b"[", b"{", b"'", b'"', b": ", b"*a", b"&a ", b"!!x ", b"\xff"]
            )
        else:
            start = dice.randrange(len(mangled))
            mangled[position:position] = mangled[start : start + dice.randrange(1, 40)]
    check(file, bytes(mangled), device)


@times(500)
@given(content=shipped, seed=st.integers(0, 2**32), device=devices)
def test_lines_deleted_doubled_moved_and_indented(file: Path, content: bytes, seed: int, device: str) -> None:
    dice = random.Random(seed)
    lines = content.splitlines(keepends=True)
    for _ in range(dice.randrange(1, 5)):
        index = dice.randrange(len(lines))
        kind = dice.randrange(4)
        if kind == 0 and len(lines) > 1:
            del lines[index]
        elif kind == 1:
            lines.insert(dice.randrange(len(lines) + 1), lines[index])
        elif kind == 2:
            lines[index] = b"  " + lines[index]
        else:
            lines[index] = lines[index].lstrip(b" ")
    check(file, b"".join(lines), device)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.integers(0, 9),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["none", "all-linear", "int8", "bf16", "merged", "gpt2", "infer", "adapter.rank", "a/b", "./a", "q_proj"]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=5,
)


def as_yaml(data: Any) -> bytes:
    """JSON is YAML; non-finite numbers come out as words."""
    return json.dumps(data).encode()


@times(400)
@given(changes=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), values, max_size=4), device=devices)
def test_random_structures(file: Path, changes: dict[str, Any], device: str) -> None:
    check(file, as_yaml({**HEAD, **changes}), device)


plausible: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["llama-tiny", "opt-tiny", "gpt2", "t5-small", "bert-base", "owner/name"]),
    "quantization": st.sampled_from(["fp32", "bf16", "int8", "nf4"]),
    "int8_threshold": st.sampled_from([0, 6.0]),
    "kbit_preparation": st.booleans(),
    "adapter": st.sampled_from(["none", {}, {"rank": 4}, {"target_modules": "all-linear"}, {"task_type": "SEQ_CLS"}]),
    "adapter_state": st.sampled_from(["base", "unmerged", "merged"]),
    "adapter.rank": st.integers(1, 4),
    "adapter.alpha": st.sampled_from([8, 16.0]),
    "adapter.target_modules": st.sampled_from(["all-linear", ["q_proj"], ["c_attn"], ["q", "v"]]),
    "adapter.options": st.sampled_from(
        [{}, {"use_dora": True}, {"rank_pattern": {"q_proj": 2}}, {"modules_to_save": ["a"]}]
    ),
    "gradient_checkpointing": st.sampled_from(["none", "reentrant"]),
    "batch_size": st.integers(1, 3),
    "sequence_length": st.sampled_from([1, 128, 1024, 1025]),
    "seed": st.integers(0, 2),
}
fixed = st.fixed_dictionaries({}, optional={key: value for key, value in plausible.items() if "." not in key})
points = st.fixed_dictionaries({}, optional=plausible).filter(bool)
matrices = st.lists(st.sampled_from(sorted(plausible)), min_size=1, max_size=3, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries(
        {key: st.lists(plausible[key], min_size=1, max_size=3, unique_by=json.dumps) for key in keys}
    )
)
variations = st.fixed_dictionaries(
    {},
    optional={
        "matrix": matrices,
        "exclude": st.lists(points, max_size=1),
        "include": st.lists(points, max_size=2),
        "interleave": st.lists(st.sampled_from(sorted(plausible)), max_size=1),
        "measure": st.just({"steps": 3}),
    },
)


@times(500)
@given(
    task=st.sampled_from(["train", "infer", "lifecycle"]),
    settings=fixed,
    varied=variations,
    on_cuda=st.none() | st.tuples(fixed, variations),
    device=devices,
    options=st.lists(points.map(lambda point: next(iter(point.items()))), max_size=1),
)
def test_plausible_scenarios(
    file: Path,
    task: str,
    settings: dict[str, Any],
    varied: dict[str, Any],
    on_cuda: tuple[dict[str, Any], dict[str, Any]] | None,
    device: str,
    options: list[tuple[str, Any]],
) -> None:
    override = {} if on_cuda is None else {"devices": {"cuda": {**on_cuda[0], **on_cuda[1]}}}
    scenario = {**HEAD, "task": task, **settings, **varied, **override}
    check(file, as_yaml(scenario), device, tuple(f"{key}={json.dumps(value)}" for key, value in options))


@times(300)
@given(content=shipped, data=st.data(), device=devices)
def test_swapped_values(file: Path, content: bytes, data: st.DataObject, device: str) -> None:
    document = YAML(typ="safe", pure=True).load(content.decode())
    holder = data.draw(st.sampled_from([part for part in walk(document) if part]))
    place = data.draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
    holder[place] = data.draw(values)
    check(file, as_yaml(document), device)


def walk(node: Any) -> list[Any]:
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    parts = [part for item in below for part in walk(item)]
    return [node, *parts] if isinstance(node, (dict, list)) else parts


@times(200)
@example(text="&\ud7fc")
@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_random_text(file: Path, text: str) -> None:
    check(file, text.encode("utf-8", "surrogatepass"))
    check(file, as_yaml(HEAD)[:-1] + b"," + text.encode("utf-8", "surrogatepass") + b"}")


@times(200)
@given(content=shipped, key=st.sampled_from(KEYS) | st.text(max_size=8), value=values, device=devices)
def test_random_options(file: Path, content: bytes, key: str, value: Any, device: str) -> None:
    check(file, content, device, (f"{key}={json.dumps(value)}",))
