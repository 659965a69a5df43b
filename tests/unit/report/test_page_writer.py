"""A whole report on disk: every file, the same verdicts in each, nothing unescaped, nothing asked of the network."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from report_material import verdicts

from lorabench.analysis.claims.evidence import Scope
from lorabench.environment import EnvironmentDevice
from lorabench.errors import InputError
from lorabench.record import RecordDevice, RecordError, Timing
from lorabench.report.page.canvas import Drawn
from lorabench.report.page.claim_figure import draw_claim
from lorabench.report.page.estimates_figure import draw_estimates
from lorabench.report.page.scenario_figure import draw_scenario
from lorabench.report.page.writer import write_report
from lorabench.results import Results

NASTY = "<script>alert('owned')</script>"


class DrawnHere:
    """Draws at once, in this process: starting others takes longer than these few figures."""

    def __init__(self) -> None:
        self._drawn: dict[str, Drawn] = {}

    def claim(self, name: str, *arguments: Any) -> None:
        self._drawn[name] = draw_claim(name, *arguments)

    def scenario(self, name: str, *arguments: Any) -> None:
        self._drawn[name] = draw_scenario(name, *arguments)

    def estimates(self, name: str, *arguments: Any) -> None:
        self._drawn[name] = draw_estimates(name, *arguments)

    def drawn(self) -> dict[str, Drawn]:
        return self._drawn


class Page(HTMLParser):
    """What a browser would ask for, the scripts that it would run, and the text that it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.ids: list[str] = []
        self.shown: list[str] = []
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        for name, value in attrs:
            if name in ("src", "srcset", "poster") or (name == "href" and tag == "link"):
                self.asked.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        if self._tag not in ("script", "style"):
            self.shown.append(data)


def page_text(out: Path) -> str:
    """What a reader of the page sees, in one line."""
    return " ".join("".join(Page((out / "index.html").read_text()).shown).split())


@pytest.fixture
def write(tmp_path, environment):
    def write(*records, verdicts=(), environments=None, path="results/fresh.jsonl") -> Path:
        known = environments or [environment]
        results = Results({one.id: one for one in known}, list(records), [], Path(path))
        write_report([results], lambda _: verdicts, tmp_path / "reports", DrawnHere())  # type: ignore[arg-type]
        return tmp_path / "reports"

    return write


def test_every_file_is_written(write, make_record, failed_record):
    out = write(make_record(), failed_record, verdicts=verdicts())
    assert {path.name for path in out.iterdir()} == {"index.html", "report.md", "claims.csv", "records.csv", "figures"}
    svgs = {path.stem for path in (out / "figures").glob("*.svg")}
    assert svgs == {path.stem for path in (out / "figures").glob("*.png")}
    assert {"claim-rank-sets-width", "claim-int8-cuts-static-2", "cases-01-ranks"} <= svgs


def test_the_page_is_one_file_that_asks_for_nothing(write, make_record):
    text = (write(make_record(), verdicts=verdicts()) / "index.html").read_text()
    page = Page(text)
    assert page.asked == ["data:,"]
    assert not re.search(r"@import|url\((?!#)[\"']?(?!data:)", text[: text.index("<script")])
    assert len(text.encode()) < 8_000_000


def test_ids_are_unique(write, make_record, failed_record):
    page = Page((write(make_record(), failed_record, verdicts=verdicts()) / "index.html").read_text())
    assert len(page.ids) == len(set(page.ids))


def test_names_and_messages_are_shown_as_text(write, make_record, failed_record):
    assert failed_record.error is not None
    bad = replace(failed_record, name=NASTY, scenario=NASTY, error=replace(failed_record.error, message=NASTY))
    named = make_record(name=NASTY, scenario=NASTY, device=RecordDevice("cpu", NASTY))
    out = write(named, bad, verdicts=verdicts(name=NASTY))
    text = (out / "index.html").read_text()
    assert NASTY not in text
    shown = "".join(Page(text).shown)
    assert NASTY in shown
    assert "RuntimeError: " + NASTY in shown
    assert NASTY not in (out / "report.md").read_text()
    assert all(re.fullmatch(r"[a-z0-9.-]+", path.name) for path in (out / "figures").iterdir())


def test_a_lone_surrogate_does_not_stop_a_report(write, make_record):
    out = write(make_record(name="bad \ud800 name", scenario="bad \ud800"))
    assert "bad" in (out / "index.html").read_text()


def test_claims_csv_has_the_verdicts_fields(write, make_record):
    made = verdicts(keys=("k1", "k2"))
    out = write(make_record(), verdicts=made)
    lines = list(csv.DictReader(io.StringIO((out / "claims.csv").read_text())))
    assert len(lines) == len(made)
    for line, verdict in zip(lines, made, strict=True):
        said = verdict.to_dict()
        assert set(line) == {*said, "predicted", "predicted_cases", "predicted_verdict", "measured_verdict"}
        # No case was predicted.
        assert (line["predicted"], line["predicted_cases"]) == ("", "")
        assert (line["id"], line["verdict"], line["scope"]) == (said["id"], said["verdict"], said["scope"])
        assert json.loads(line["evidence"]) == said["evidence"]
        assert (json.loads(line["ci95"]) if line["ci95"] else None) == said["ci95"]


def test_records_csv_is_the_frame_of_load_and_the_file_of_each_record(write, make_record, failed_record, environment):
    from lorabench.analysis.frame import frame

    out = write(make_record(), failed_record)
    table = pd.read_csv(out / "records.csv")
    expected = frame([make_record(), failed_record], {environment.id: environment})
    assert list(table.columns) == [*expected.columns, "file"]
    assert table["file"].tolist() == ["results/fresh.jsonl"] * 2
    assert table["memory_static_bytes"].tolist()[0] == expected["memory_static_bytes"].tolist()[0]
    assert table["status"].tolist() == ["ok", "failed"]


def test_page_and_markdown_give_each_claim_its_verdict(write, make_record):
    made = verdicts()
    out = write(make_record(), verdicts=made)
    shown = page_text(out)
    markdown = (out / "report.md").read_text()
    for verdict in made:
        assert verdict.claim.title in shown
        assert verdict.claim.title in markdown
        assert verdict.claim.hypothesis in shown
        assert verdict.finding.summary in shown
        assert verdict.claim.refuted_by in markdown
    assert "| [Loading in 8 bit cuts static memory](#int8-cuts-static) | 3.1, 3.3.1 | **conditional** |" in markdown
    assert "![Loading in 8 bit cuts static memory](figures/claim-int8-cuts-static.svg)" in markdown
    assert "load_in_8bit=True" in shown


def test_of_many_keys_markdown_says_where_the_others_are(write, make_record):
    keys = tuple(f"k{number}" for number in range(13))
    text = (write(make_record(), verdicts=verdicts(keys=keys)) / "report.md").read_text()
    assert "`k11` and 1 more, all in the column evidence of claims.csv\n" in text
    text = (write(make_record(), verdicts=verdicts(keys=keys[:12])) / "report.md").read_text()
    assert "`k11`\n" in text
    assert "claims.csv" not in text


def test_page_and_markdown_say_how_to_run_a_verdict_again(write, make_record):
    record = make_record(scenario="rank")
    out = write(record, verdicts=verdicts(keys=(record.key,)))
    name = "rank-sets-width"
    command = (
        f"lorabench run scenarios/rank.yaml --device cpu --out {name}.jsonl; "
        f"lorabench claims {name}.jsonl --claim {name}"
    )
    # As it stands, for a reader copies it.
    assert command in "".join(Page((out / "index.html").read_text()).shown)
    assert f"`{command}`" in (out / "report.md").read_text()


def test_blocks_of_markdown_stand_apart(write, make_record, failed_record):
    lines = (write(make_record(), failed_record, verdicts=verdicts()) / "report.md").read_text().splitlines()
    for before, line in itertools.pairwise(lines):
        if line.startswith(("#", "![")):
            assert before == "", line
        if before.startswith((">", "![", "#")):
            assert line == "", before
        assert "\\u" not in line


def test_committed_evidence_and_other_devices_are_marked(write, make_record, environment):
    gpu = replace(environment, id="f" * 12, device=EnvironmentDevice("cuda", "NVIDIA H100 80GB HBM3", 80 << 30))
    other = make_record(environment=gpu.id, device=RecordDevice("cuda", "NVIDIA H100 80GB HBM3"))
    out = write(make_record(), other, verdicts=verdicts(), environments=[environment, gpu])
    shown = page_text(out)
    assert "committed evidence" in shown
    assert "Records of 2 devices stand side by side" in shown
    assert "supported on NVIDIA H100 80GB HBM3, not tested on NVIDIA H100 80GB HBM3 (predicted)" in shown


def test_a_prediction_that_is_committed_has_both_words_in_one_pair_of_brackets(write, make_record, environment):
    card = "NVIDIA H100 80GB HBM3"
    fake = replace(environment, device=EnvironmentDevice("fake", card, 80 << 30))
    told = make_record(source="predicted", device=RecordDevice("fake", card))
    one = verdicts()[0]
    judged = replace(one, scope=Scope("fake", card, "predicted", committed=True))
    out = write(told, verdicts=[judged], environments=[fake], path="results/h100/predicted.jsonl")
    where = f"{card} (predicted, committed)"
    text = (out / "report.md").read_text()
    assert f"**supported** on {where}: " in text
    assert f" | {where} |\n" in text
    assert f"### ranks on {where}\n" in text
    assert f"### {where}\n" in text
    assert f"ranks on {where}" in page_text(out)
    assert not any(") (" in shown for shown in (text, page_text(out)))


def test_predictions_stand_beside_what_was_measured(write, make_record):
    card = "NVIDIA H100 80GB HBM3"
    measured = make_record(device=RecordDevice("cuda", card))
    assert measured.memory is not None
    memory = replace(measured.memory, peak_allocated_bytes=158_000_000)
    predicted = replace(measured, source="predicted", device=RecordDevice("fake", card), memory=memory)
    out = write(measured, predicted)
    lines = list(csv.DictReader(io.StringIO((out / "predictions.csv").read_text())))
    errors = {line["quantity"]: int(line["error_bytes"]) for line in lines}
    assert errors == {"static": 0, "peak allocated": 158_000_000 - 150 * 2**20}
    shown = "".join(Page((out / "index.html").read_text()).shown)
    for text in ("Predicted beside measured", "158,000,000", "157,286,400", "713,600"):
        assert text in shown
    text = (out / "report.md").read_text()
    assert "| 713,600 |" in text
    assert "1 of the records are predictions, all beside what was measured." in text
    alone = replace(predicted, key="0" * 16)
    assert (
        "2 of the records are predictions, 1 of them beside what"
        in (write(measured, predicted, alone) / "report.md").read_text()
    )
    assert "1 of the records are predictions." in (write(measured, alone) / "report.md").read_text()


def test_predictions_of_an_earlier_report_do_not_stay(write, make_record):
    card = "NVIDIA H100 80GB HBM3"
    measured = make_record(device=RecordDevice("cuda", card))
    out = write(measured, replace(measured, source="predicted", device=RecordDevice("fake", card)))
    assert (out / "predictions.csv").exists()
    assert not (write(measured) / "predictions.csv").exists()
    assert "Predicted beside measured" not in (out / "index.html").read_text()


def test_figures_of_an_earlier_report_do_not_stay(write, make_record):
    figures = (
        write(make_record(), make_record(case={"scenario": "other", "batch_size": 9}), verdicts=verdicts()) / "figures"
    )
    for name in ("estimates-2.svg", "cases-03.png"):
        (figures / name).touch()
    kept = {"notes.txt", "my-claim-x.svg", "cases-of-mine.svg", "claim-rank-sets-width.pdf", "estimates.csv"}
    for name in kept:
        (figures / name).touch()
    (figures / "claim-folder.png").mkdir()
    write(make_record(), verdicts=verdicts()[:1])
    assert {path.name for path in figures.iterdir()} == kept | {
        *("cases-01-ranks.svg", "cases-01-ranks.png", "claim-rank-sets-width.svg", "claim-rank-sets-width.png"),
        "claim-folder.png",
    }


def test_times_stand_beside_the_devices_limits(write, make_record):
    work = {"step": {"flops": {"fp32": 4_400_000_000}, "moved_bytes": 1_100_000_000}}
    ceilings = {"copy": 2e11, "fp32": 8e11}
    out = write(make_record(observations={"work": work, "ceilings": ceilings}))
    [line] = csv.DictReader(io.StringIO((out / "roofline.csv").read_text()))
    # Both take 5.5 ms; the step took 11.
    assert (line["phase"], float(line["compute_s"]), float(line["memory_s"])) == ("step", 0.0055, 0.0055)
    assert float(line["share"]) == pytest.approx(0.5)
    shown = page_text(out)
    assert "How near to the device's limits" in shown
    assert "| 4.4 | 1.1 | 5.5 | compute | 11 | 50 |" in (out / "report.md").read_text()
    # Two machines of one name are told apart.
    assert f"| {line['device']} | {line['environment']} | 200 | 800 |" in (out / "report.md").read_text()
    assert not (write(make_record()) / "roofline.csv").exists()
    assert "device's limits" not in (out / "index.html").read_text()


def test_phases_without_a_limit_are_counted_by_reason(write, make_record):
    work = {"step": {"flops": {"fp32": 4_400_000_000}, "moved_bytes": 1_100_000_000}}
    limited = make_record(observations={"work": work, "ceilings": {"copy": 2e11, "fp32": 8e11}})
    uncounted = [make_record(observations={}, seed=seed) for seed in (1, 2)]
    unmeasured = make_record(observations={"work": {"step": {**work["step"], "flops": {"bf16": 1}}}}, seed=3)
    out = write(limited, *uncounted, unmeasured)
    for text in (page_text(out), (out / "report.md").read_text()):
        assert "2 of 4 timed phases have no limit: their work was not counted." in text
        assert "1 of 4 timed phases has no limit: a ceiling that it needs was not measured in its environment." in text
    assert len(list(csv.DictReader(io.StringIO((out / "roofline.csv").read_text())))) == 1
    write(limited)
    assert not any("no limit:" in text for text in (page_text(out), (out / "report.md").read_text()))


def test_repeats_are_listed_with_their_number(write, make_record, failed_record):
    shaky = Timing((0.01, 0.02), 0.015, (0.01, 0.02), unstable=True, reason="drift: +9.0%")
    rounds = [replace(failed_record, repeat=repeat) for repeat in (0, 1)]
    out = write(*rounds, make_record(repeat=1, latency={"step": shaky}))
    shown = "".join(Page((out / "index.html").read_text()).shown)
    for text in (shown, (out / "report.md").read_text().replace("\\", "")):
        for name in ("ranks[adapter.rank=8] #1", "ranks[adapter.rank=8] #2", "ranks[adapter.rank=4] #2"):
            assert name in text


def test_an_invalid_case_is_not_drawn(write, make_record):
    wrong = RecordError("Invalid", "no optimizer state in 8 bit")
    bad = make_record(case={"axes": (("optimizer", "adamw-8bit"),), "batch_size": 9}, status="invalid", error=wrong)
    other = make_record(case={"scenario": "other", "batch_size": 7}, status="invalid", error=wrong)
    out = write(make_record(), bad, other)
    assert [path.name for path in (out / "figures").glob("*.svg")] == ["cases-01-ranks.svg"]
    figure = (out / "figures" / "cases-01-ranks.svg").read_text()
    assert ">4</text>" in figure
    assert "adamw-8bit" not in figure
    shown = page_text(out)
    for text in (shown, (out / "report.md").read_text()):
        assert "Cases that ended invalid are not drawn" in text
    write(other)
    assert "No case has measured memory or time." in (out / "index.html").read_text()
    write(make_record())
    assert "ended invalid" not in (out / "report.md").read_text()


def test_without_verdicts_the_measurements_stand_on_their_own(write, make_record):
    out = write(make_record())
    shown = page_text(out)
    assert "No claim was judged" in shown
    assert "No verdict" in (out / "report.md").read_text()


def test_without_records_the_page_says_so(write):
    out = write(verdicts=verdicts())
    shown = page_text(out)
    assert "No case has measured memory or time." in shown
    assert "0 records" in shown


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, environment, make_record):
    (tmp_path / "file").write_text("")
    results = Results({environment.id: environment}, [make_record()])
    with pytest.raises(InputError, match=r"--out .*file.*: cannot be written: "):
        write_report([results], lambda _: [], tmp_path / "file" / "reports", DrawnHere())  # type: ignore[arg-type]


@pytest.fixture
def command(tmp_path):
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        whole = [sys.executable, "-m", "lorabench", "report", *arguments]
        return subprocess.run(whole, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    return command


def test_the_command_writes_and_says_where(command, tmp_path, environment, make_record, failed_record):
    lines = [environment, make_record(), failed_record]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line.to_dict()) + "\n" for line in lines))
    done = command("r.jsonl", "--out", "there")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == ["not ok: 1 failed", "report: there/index.html"]
    assert (tmp_path / "there" / "index.html").is_file()


def test_a_file_without_records_is_refused_and_nothing_written(command, tmp_path, environment):
    (tmp_path / "r.jsonl").write_text(json.dumps(environment.to_dict()) + "\n")
    done = command("r.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "r.jsonl: no record: there is nothing to report before a case has run\n"
    assert not (tmp_path / "reports").exists()
