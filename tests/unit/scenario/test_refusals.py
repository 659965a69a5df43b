"""Every bad input is refused in one line that names the file, the line and the key."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lorabench.errors import EXIT_BAD_INPUT, InputError, ScenarioError
from lorabench.scenario import load_scenarios

HEAD = "scenario: s\nquestion: What?\ntask: train\nmodel: llama-tiny\n"
INFER = HEAD.replace("train", "infer")

REFUSED = {
    # What is misspelt is said with the nearest name.
    "misspelt key": (HEAD + "batchsize: 2\n", 5, r"batchsize: unknown key \(did you mean 'batch_size'\?\)"),
    "unknown key": (HEAD + "colour: 2\n", 5, r"colour: unknown key; known are task, model, "),
    "misspelt key in adapter": (
        HEAD + "adapter:\n  rnk: 2\n",
        6,
        r"adapter\.rnk: unknown key \(did you mean 'rank'\?\)",
    ),
    "misspelt axis": (HEAD + "matrix:\n  adapter.rnk: [2]\n", 6, r"matrix\.adapter\.rnk: .* 'adapter\.rank'"),
    "axis without its prefix": (HEAD + "matrix:\n  rank: [2]\n", 6, r"matrix\.rank: unknown key; write adapter\.rank"),
    "key of adapter at the top": (HEAD + "rank: 2\n", 5, r"rank: unknown key; write adapter: \{rank: \.\.\.\}"),
    "dotted key at the top": (HEAD + "adapter.rank: 2\n", 5, r"unknown key; write adapter: \{rank: \.\.\.\}"),
    "key of measure at the top": (HEAD + "steps: 2\n", 5, r"steps: unknown key; write measure: \{steps: \.\.\.\}"),
    "measure as an axis": (HEAD + "matrix: {measure.steps: [2]}\n", 5, r"cannot vary: it tells no two cases apart"),
    "unknown key in exclude": (HEAD + "exclude:\n  - {ranks: 2}\n", 6, r"exclude\[0\]\.ranks: unknown key"),
    "unknown key in include": (HEAD + "include: [{adapter.ranks: 2}]\n", 5, r"did you mean 'adapter\.rank'"),
    "unknown device": (HEAD + "devices: {gpu: {}}\n", 5, r"devices\.gpu: unknown device; they are cpu and cuda"),
    "fake as a device": (HEAD + "devices: {fake: {}}\n", 5, r"fake takes cuda's settings"),
    "unknown key of a device": (HEAD + "devices:\n  cuda:\n    batch: 2\n", 7, r"devices\.cuda\.batch: .*'batch_size'"),
    "scenario of a device": (HEAD + "devices: {cuda: {scenario: t}}\n", 5, r"is the same on every device"),
    "misspelt preset": (
        HEAD.replace("llama-tiny", "lama-tiny"),
        4,
        r"unknown model 'lama-tiny' \(did you mean 'llama-tiny'",
    ),
    "misspelt choice": (HEAD + "quantization: in8\n", 5, r'quantization: "in8" is not one of fp32, .* \'int8\''),
    # Types.
    "text for a number": (HEAD + 'batch_size: "2"\n', 5, r'batch_size: must be a whole number, not "2"'),
    "boolean for a number": (HEAD + "batch_size: true\n", 5, r"must be a whole number, not true"),
    "number for a boolean": (HEAD + "autocast: 1\n", 5, r"must be true or false, not 1"),
    "YAML 1.1 boolean": (HEAD + "autocast: yes\n", 5, r'must be true or false, not "yes"'),
    "fraction for a whole number": (HEAD + "batch_size: 2.5\n", 5, r"must be a whole number, not 2\.5"),
    "number for text": (HEAD.replace("What?", "12"), 2, r"question: must be text, not 12; put it into quotes"),
    "null": (HEAD + "batch_size:\n", 5, r"must be a whole number, not null"),
    "adapter as a number": (HEAD + "adapter: 8\n", 5, r"adapter: must be a mapping of keys to values, or none, not 8"),
    "misspelt none": (HEAD + "adapter: nope\n", 5, r'adapter: "nope" is not one of none'),
    "target modules as a word": (
        HEAD + "adapter: {target_modules: q_proj}\n",
        5,
        r'"q_proj" is not one of all-linear',
    ),
    "no target modules": (HEAD + "adapter: {target_modules: []}\n", 5, r"target_modules: must not be empty"),
    "a module twice": (HEAD + "adapter: {target_modules: [q_proj, q_proj]}\n", 5, r"names a module twice"),
    "option with a key of its own": (HEAD + "adapter: {options: {lora_alpha: 3}}\n", 5, r"write adapter\.alpha"),
    "not a number": (HEAD + "learning_rate: .nan\n", 5, r"learning_rate: \"\.nan\" is not a finite number"),
    "infinite": (HEAD + "learning_rate: 1e999\n", 5, r"is not a finite number"),
    "minus infinity": (HEAD + "learning_rate: -.inf\n", 5, r"is not a finite number"),
    "endless number": (HEAD + f"batch_size: {'9' * 5000}\n", 5, r"has more than 18 digits"),
    # Ranges.
    "rank 0": (HEAD + "adapter: {rank: 0}\n", 5, r"adapter\.rank: must be at least 1, not 0"),
    "padding 1": (HEAD + "padding: 1.0\n", 5, r"padding: must be less than 1, not 1\.0"),
    "negative padding": (HEAD + "padding: -0.1\n", 5, r"padding: must be at least 0"),
    "no learning": (HEAD + "learning_rate: 0\n", 5, r"must be more than 0"),
    "huge batch": (HEAD + "batch_size: 1000000000\n", 5, r"must be at most 65536"),
    "long limit": (INFER + "new_tokens: 1048577\n", 5, r"new_tokens: must be at most 1048576, not 1048577$"),
    "limit of a fraction": (HEAD + "learning_rate: 1001.5\n", 5, r"must be at most 1000, not 1001\.5$"),
    "bad axis value": (
        HEAD + "matrix:\n  adapter.rank:\n    - 8\n    - 0\n",
        8,
        r"matrix\.adapter\.rank\[1\]: must be at least 1",
    ),
    "scenario's name": (HEAD.replace("scenario: s", "scenario: S s"), 1, r"lower-case letters, digits and hyphens"),
    "missing key": (HEAD.replace("task: train\n", ""), 1, r"task: is required"),
    # The matrix.
    "empty axis": (HEAD + "matrix:\n  batch_size: []\n", 6, r"matrix\.batch_size: must not be empty"),
    "axis that is no list": (HEAD + "matrix:\n  batch_size: 2\n", 6, r"must be a list, such as \[8, 16\], not 2"),
    "empty matrix": (HEAD + "matrix: {}\n", 5, r"matrix: is empty; give at least one axis, or leave it out"),
    "matrix without anything": (HEAD + "matrix:\n", 5, r"matrix: must be a mapping of keys to values, not null"),
    "duplicate axis values": (HEAD + "matrix:\n  adapter.alpha:\n    - 8\n    - 8.0\n", 8, r"8\.0 is given twice"),
    "nothing left": (HEAD + "matrix: {batch_size: [1]}\nexclude: [{batch_size: 1}]\n", 1, r"expands to no case"),
    "too many cases": (
        HEAD + f"matrix:\n  seed: {list(range(101))}\n  batch_size: {list(range(1, 101))}\n",
        1,
        r"scenario: expands to 10,100 cases, the limit is 10,000",
    ),
    "far too many cases": (
        HEAD
        + "matrix:\n"
        + "".join(f"  {key}: {list(range(1, 3001))}\n" for key in ("seed", "batch_size", "adapter.rank", "new_tokens")),
        1,
        r"expands to 81,000,000,000,000 cases",
    ),
    "exclude that matches nothing": (
        HEAD + "matrix: {batch_size: [1, 2]}\nexclude:\n  - {batch_size: 1}\n  - {batch_size: 3}\n",
        8,
        r"exclude\[1\]: matches no case",
    ),
    "exclude without keys": (HEAD + "matrix: {batch_size: [1, 2]}\nexclude: [{}]\n", 6, r"exclude\[0\]: is empty"),
    "interleave of no axis": (
        HEAD + "matrix: {batch_size: [1, 2]}\ninterleave: [batchsize]\n",
        6,
        r"interleave\[0\]: 'batchsize' is no axis of the matrix \(did you mean 'batch_size'\?\)",
    ),
    "adapter varied twice": (
        HEAD + "matrix:\n  adapter: [none, {rank: 8}]\n  adapter.rank: [8, 16]\n",
        7,
        r"varies adapter as a whole already",
    ),
    "rank of no adapter": (HEAD + "adapter: none\nmatrix: {adapter.rank: [8]}\n", 6, r"set where adapter is none"),
    # Combinations.
    "inference with checkpointing": (INFER + "gradient_checkpointing: reentrant\n", 5, r"no backward pass"),
    "no adapter, unmerged": (INFER + "adapter: none\nadapter_state: unmerged\n", 6, r"unmerged needs an adapter"),
    "no adapter, merged": (INFER + "adapter: none\nadapter_state: merged\n", 6, r"merged needs an adapter"),
    "preparation of bf16": (
        HEAD + "kbit_preparation: true\n",
        5,
        r"kbit_preparation: would turn the whole bf16 model into",
    ),
    "preparation in a matrix": (
        HEAD + "matrix:\n  quantization: [int8, fp16]\n  kbit_preparation:\n    - true\n",
        8,
        r"would turn the whole fp16",
    ),
    "full fine-tuning of int8": (HEAD + "adapter: none\nquantization: int8\n", 6, r"int8 weights have no gradient"),
    "full fine-tuning of nf4": (HEAD + "adapter: none\nquantization: nf4\n", 6, r"nf4 weights have no gradient"),
    "lifecycle of nothing": (
        HEAD.replace("train", "lifecycle") + "adapter: none\n",
        5,
        r"lifecycle is that of an adapter",
    ),
    "task of another architecture": (
        HEAD + "adapter: {task_type: SEQ_2_SEQ_LM}\n",
        5,
        r"cannot be a SEQ_2_SEQ_LM model",
    ),
    "one token": (HEAD + "sequence_length: 1\n", 5, r"take at least 2"),
    "beyond learned positions": (
        HEAD.replace("llama-tiny", "gpt2") + "sequence_length: 1025\n",
        5,
        r"sequence_length is 1,025, but gpt2 has learned positions for 1,024",
    ),
    "decoding beyond learned positions": (
        INFER.replace("llama-tiny", "opt-125m") + "sequence_length: 2040\nnew_tokens: 9\n",
        5,
        r"sequence_length \+ new_tokens is 2,049, but opt-125m has learned positions for 2,048",
    ),
    "layers of another architecture": (
        HEAD.replace("llama-tiny", "gpt2") + "adapter: {target_modules: [q_proj]}\n",
        5,
        r"gpt2 has no layer 'q_proj'.*; its linear layers are c_attn, c_proj, c_fc",
    ),
    "weights that there are not": (HEAD + "weights: pretrained\n", 5, r"llama-tiny has no pretrained weights"),
    "flash attention on a CPU": (HEAD + "attention: flash_attention_2\n", 5, r"needs a GPU"),
    "path that is not there": (HEAD.replace("llama-tiny", "./no/such"), 4, r"model: no folder '\./no/such'"),
    # Not what a scenario file is.
    "empty file": ("", None, r"is empty; it must hold scenario"),
    "comments alone": ("# nothing\n", None, r"is empty"),
    "list at the top": ("- a\n- b\n", 1, r"must be a mapping of keys to values"),
    "text at the top": ("just words\n", 1, r"must be a mapping of keys to values"),
    "not YAML": (HEAD + "adapter: {rank: 8\nbatch_size: 1\n", 6, r"is not YAML: "),
    "a tab": (HEAD + "adapter:\n\trank: 8\n", 6, r"is not YAML: "),
    "duplicate key": (HEAD + "batch_size: 1\nbatch_size: 2\n", 6, r"batch_size: is given twice, first in line 5"),
    "duplicate key below": (
        HEAD + "adapter:\n  rank: 1\n  rank: 2\n",
        7,
        r"adapter\.rank: is given twice, first in line 6",
    ),
    "anchor": (HEAD + "batch_size: &a 1\n", 5, r"batch_size: anchors \(&a\) are not supported"),
    "alias": (HEAD + "batch_size: *a\n", 5, r"aliases \(\*a\) are not supported"),
    "tag": (HEAD + "batch_size: !!python/object:os.system 1\n", 5, r"batch_size: tags .* are not supported"),
    "tag of a mapping": ("!!map\n" + HEAD, None, r"tags .* are not supported"),
    "two documents": (HEAD + "---\n" + HEAD, 5, r"second document"),
    "key that is a list": (HEAD + "? [a]\n: 1\n", 5, r"a key must be a plain name"),
    "key that is a number": (HEAD + "1: 1\n", 5, r"a key must be a name, not 1"),
    "deep": (HEAD + "adapter: {options: " + "{a: " * 5000 + "}" * 5001 + "}\n", 5, r"nested more than 12 deep"),
    "deep lists": (HEAD + "interleave: " + "[" * 100_000, 5, r"nested more than 12 deep"),
    "escape in a name": (
        HEAD.replace("llama-tiny", '"a\\e[31mb"'),
        4,
        r"model: holds the unprintable character U\+001B",
    ),
    "line end in a name": (HEAD + 'adapter: {target_modules: ["a\\nb"]}\n', 5, r"unprintable character U\+000A"),
    "escape in a key": (HEAD + '"a\\eb": 1\n', 5, r"unprintable character"),
    "raw control character": (HEAD + "# bell: \a\n", 5, r"holds the unprintable character U\+0007"),
    "half a character": (HEAD.replace("What?", '"\\ud800"'), 2, r"unprintable character U\+D800"),
}


@pytest.mark.parametrize(("text", "line", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_in_one_line(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        load_scenarios([path], "cpu")
    said = str(caught.value)
    where = re.escape(str(path)) + (f":{line}" if line else r"(:\d+)?")
    assert re.match(rf"{where}: .*{message}", said), said
    assert said.isprintable()
    assert caught.value.exit_code == EXIT_BAD_INPUT


def refused(path: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        load_scenarios([path], "cpu")
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(HEAD.encode() + b"# caf\xe9\n")
    assert refused(path) == f"{path}:5: is not UTF-8 (byte 0xe9); save it as UTF-8"


def test_byte_order_mark_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.encode())
    assert load_scenarios([path], "cpu")[0].name == "s"


def test_hundred_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    with path.open("wb") as stream:
        stream.truncate(100 * 1024 * 1024)
    assert "is larger than 128 KiB" in refused(path)


def test_endless_file() -> None:
    assert refused("/dev/zero") == "/dev/zero: is not a regular file; give a YAML file or a folder"


def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s.yaml")
    assert "is not a regular file" in refused(tmp_path)


def test_no_such_path(tmp_path: Path) -> None:
    assert "no file or folder" in refused(tmp_path / "nothing")


def test_path_that_the_system_refuses(tmp_path: Path) -> None:
    assert refused(tmp_path / ("a" * 300 + ".yaml")).endswith(" cannot be read: File name too long")


def test_folder_without_scenarios(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "s.yaml").write_text(HEAD)
    assert "there is no .yaml or .yml file directly in it" in refused(tmp_path)


def test_line_end_in_a_path(tmp_path: Path) -> None:
    (tmp_path / "a\nb").mkdir()
    (tmp_path / "a\nb" / "s.yaml").write_text("- 1\n")
    assert "a\\nb/s.yaml:1: must be a mapping" in refused(tmp_path / "a\nb")
    assert "a\\nc" in refused(tmp_path / "a\nc")


def test_duplicate_names_over_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(HEAD)
    (tmp_path / "b.yaml").write_text("# a comment\n" + HEAD)
    assert refused(tmp_path) == (
        f"{tmp_path}/b.yaml:2: scenario: s is the name of {tmp_path}/a.yaml:1 too; names must be unique"
    )


def test_model_folder_without_configuration(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "s.yaml").write_text(HEAD.replace("llama-tiny", str(tmp_path / "model")))
    assert re.search(r"s\.yaml:4: model: .*model' has no config\.json", refused(tmp_path / "s.yaml"))


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"a": 1'])
def test_model_folder_with_a_broken_configuration(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "s.yaml").write_text(HEAD.replace("llama-tiny", str(tmp_path)))
    assert "config.json" in refused(tmp_path / "s.yaml")


def test_unknown_device(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown device 'gpu'; it is one of cpu, cuda, fake"):
        load_scenarios([tmp_path], "gpu")
