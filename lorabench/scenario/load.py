"""From paths and options to scenarios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorabench.case import Case
from lorabench.errors import InputError, ScenarioError, UnfitModelError
from lorabench.scenario.document import Document, parse_value, read_document
from lorabench.scenario.expand import expand
from lorabench.scenario.plan import Origin, Settings, flatten, make_plan
from lorabench.scenario.validation import validate_file, validate_overrides
from lorabench.wording import one_line

DEVICES = ("cpu", "cuda", "fake")
_SUFFIXES = frozenset({".yaml", ".yml"})


@dataclass(frozen=True)
class Scenario:
    """A scenario file as one device runs it; ``cases`` are fully resolved, in the order of the matrix.

    ``left_out`` says of each case that the model of ``--model`` cannot be what is in the way.
    """

    name: str
    question: str
    file: str
    cases: tuple[Case, ...]
    left_out: tuple[str, ...] = ()


def load_scenarios(
    paths: Sequence[str | Path], device: str, model: str | None = None, overrides: Sequence[str] = ()
) -> list[Scenario]:
    """Load scenario files, and the YAML files directly in folders, as ``device`` (cpu, cuda or fake) runs them.

    ``overrides`` are the texts of ``--set KEY=VALUE``, with flat keys and YAML values; ``model`` is that of
    ``--model``. Both hold in every case of every file: ``adapter.rank=16`` where the rank varies fixes it, and the
    axis is gone; a case that ``model`` cannot be is left out. ``fake`` takes the settings of cuda.

    Raises:
        InputError: a path does not exist, or a folder has no YAML file in it.
        ScenarioError: a file or an option is refused; the text names file, line and key. So it is where ``model``
            can be none of the cases.
    """
    if device not in DEVICES:
        raise InputError(f"unknown device {device!r}; it is one of {', '.join(DEVICES)}")
    options = _options(model, overrides)
    scenarios: list[Scenario] = []
    unfit: list[UnfitModelError] = []
    first_use: dict[str, str] = {}
    for path in _files(paths):
        document = read_document(path)
        data = validate_file(document)
        name = data["scenario"]
        if name in first_use:
            raise document.error(("scenario",), f"{name} is the name of {first_use[name]} too; names must be unique")
        first_use[name] = f"{document.file}:{document.line(('scenario',))}"
        scenario, errors = _scenario(document, data, device, options)
        scenarios.append(scenario)
        unfit += errors
    if unfit and not any(scenario.cases for scenario in scenarios):
        raise unfit[0]
    return scenarios


def _scenario(
    document: Document, data: dict[str, object], device: str, options: Settings
) -> tuple[Scenario, tuple[UnfitModelError, ...]]:
    name = str(data["scenario"])
    cases, unfit = expand(make_plan(document, data, device, options), name, device)
    question = " ".join(str(data["question"]).split())
    return Scenario(name, question, document.file, cases, tuple(map(str, unfit))), unfit


def _files(paths: Sequence[str | Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for given in map(Path, paths):
        try:
            if not given.exists():
                raise InputError(f"no file or folder {one_line(str(given))}; give scenario files or folders of them")
            inside = sorted(p for p in given.iterdir() if p.suffix in _SUFFIXES) if given.is_dir() else [given]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise InputError(f"{one_line(str(given))[:200]} cannot be read: {reason}") from error
        if not inside:
            raise InputError(f"no scenario in {one_line(str(given))}: there is no .yaml or .yml file directly in it")
        for path in inside:
            resolved = path.resolve()
            if resolved not in seen:
                seen.add(resolved)
                yield path


def _options(model: str | None, overrides: Sequence[str]) -> Settings:
    settings: Settings = {}
    if model is not None:
        settings |= _option("--model", "model", model)
    for text in overrides:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ScenarioError(
                "--set", None, None, f"{one_line(text)[:80]!r} must be KEY=VALUE, as in adapter.rank=16"
            )
        settings |= _option("--set", key, parse_value(value, f"--set: {one_line(key)[:80]}"))
    if "adapter" in settings and settings["adapter"].value == "none" and (both := _inside_adapter(settings)):
        raise ScenarioError("--set", None, both, "cannot be set together with adapter=none; leave one of them out")
    return settings


def _option(option: str, key: str, value: object) -> Settings:
    checked = validate_overrides({key: value}, option)
    return flatten(key, checked[key], Origin(option, None, "" if option == "--model" else key))


def _inside_adapter(settings: Settings) -> str | None:
    return next((key for key in settings if key.startswith("adapter.")), None)
