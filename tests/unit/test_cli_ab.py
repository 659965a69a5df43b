"""What ``lorabench ab`` does around a comparison, which is made up here: nothing is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from lorabench.analysis.paired import Judgement, Rules
from lorabench.analysis.paired.comparison import Answer, Comparison
from lorabench.case import Case
from lorabench.cli.ab import ab
from lorabench.errors import InputError

SCENARIO = "scenario: tiny\nquestion: Is the branch slower?\ntask: train\nmodel: llama-tiny\n"


@pytest.fixture
def measured(tmp_path, monkeypatch, environment) -> list[Path]:
    """The files that comparisons were asked to write samples into; each comparison finds the head slower."""
    (tmp_path / "tiny.yaml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    case = Case("tiny", "train", "llama-tiny")
    slower = Judgement("slower", True, 4, 1.1, 1.05, 1.15, 0.06)
    answer = Answer(case, "step", slower, 0.0201, 0.0221, {"base": 0, "head": 0}, None)
    asked = []

    def compare(cases: object, pythons: object, target: object, *, out: Path, **_: object) -> Comparison:
        asked.append(out)
        return Comparison({"base": environment, "head": environment}, Rules(), [answer], "settled", 4, 1.0)

    monkeypatch.setattr("lorabench.ab.run.run", compare)
    return asked


def compare(**options: object) -> None:
    ab([Path("tiny.yaml")], "python", "python", device="cpu", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("as_json", [False, True])
def test_the_verdict_is_told_where_a_file_cannot_be_written(measured, capsys, as_json):
    with pytest.raises(InputError, match="--junit /dev/full: cannot be written: No space left on device"):
        compare(junit=Path("/dev/full"), markdown=Path("out.md"), as_json=as_json)
    assert ('"verdict": "slower"' if as_json else "failed: 1 slower") in capsys.readouterr().out
    assert "| `tiny` | step |" in Path("out.md").read_text()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("folder", "Is a directory"),
        ("tiny.yaml/out.xml", "Not a directory"),
        ("tiny.yaml/new/out.xml", "Not a directory"),
    ],
)
@pytest.mark.parametrize("option", ["junit", "markdown"])
def test_what_cannot_be_written_is_told_before_anything_is_measured(measured, option, path, why):
    Path("folder").mkdir()
    with pytest.raises(InputError, match=f"--{option} {path}: cannot be written: {why}"):
        compare(**{option: Path(path)})
    assert measured == []


def test_folders_without_the_right_to_write_are_told_before_anything_is_measured(measured, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(InputError, match=r"--junit new/out\.xml: cannot be written: Permission denied"):
        compare(junit=Path("new/out.xml"))
    assert (measured, Path("new").exists()) == ([], False)


def test_missing_folders_of_files_are_made(measured):
    with pytest.raises(typer.Exit) as ended:
        compare(junit=Path("a/b/out.xml"))
    assert (ended.value.exit_code, len(measured)) == (1, 1)
    assert Path("a/b/out.xml").exists()


@pytest.mark.parametrize("side", ["base", "head"])
@pytest.mark.parametrize("option", ["out", "junit", "markdown"])
def test_the_interpreters_are_not_overwritten(measured, side, option):
    # As an environment has it: a link.
    Path("python3").touch()
    Path("environment").symlink_to("python3")
    pythons = {"base": "other", "head": "other", side: "environment"}
    with pytest.raises(InputError, match=f"--{side} and --{option}: both are python3: name two files"):
        ab([Path("tiny.yaml")], **pythons, device="cpu", **{option: Path("python3")}, force=option == "out")
    assert measured == []
