"""What ``list`` prints."""

from __future__ import annotations

import io
from dataclasses import replace

from lorabench.case import Case
from lorabench.report.cases import print_cases
from lorabench.report.terminal import open_console

CASE = Case(scenario="ranks", task="train", model="llama-tiny")


def output(cases: list[Case]) -> list[str]:
    stream = io.StringIO()
    print_cases(open_console(stream), cases, {"ranks": "What does a rank cost?", "plain": "Does it run?"})
    return stream.getvalue().splitlines()


def test_cases_stand_below_their_scenario_with_key_and_varied_settings():
    ranks = [replace(CASE, axes=(("adapter.rank", 4), ("batch_size", size)), batch_size=size) for size in (1, 2)]
    plain = replace(CASE, scenario="plain", task="infer", model="gpt2")
    assert output([*ranks, plain]) == [
        "ranks (train, llama-tiny)",
        "What does a rank cost?",
        f"  {ranks[0].key}  adapter.rank=4, batch_size=1",
        f"  {ranks[1].key}  adapter.rank=4, batch_size=2",
        "",
        "plain (infer, gpt2)",
        "Does it run?",
        f"  {plain.key}  plain",
        "",
        "3 cases in 2 scenarios",
    ]


def test_a_long_name_stays_on_one_line():
    case = replace(CASE, axes=(("adapter.target_modules", tuple("q" * 40 for _ in range(9))),))
    assert any("+".join(["q" * 40] * 9) in line for line in output([case]))
