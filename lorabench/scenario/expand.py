"""From a plan to its cases."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from lorabench.case import Adapter, Case, Measure, frozen
from lorabench.catalog import describe
from lorabench.errors import InputError, UnfitModelError
from lorabench.scenario.plan import LORA, NONE, Entry, Plan, Settings, has_adapter, merge
from lorabench.scenario.rules import refuse

CASES_LIMIT = 10_000

Axes = tuple[tuple[str, Any], ...]

_DEFAULT_ADAPTER = Adapter()


def expand(plan: Plan, name: str, device: str) -> tuple[tuple[Case, ...], tuple[UnfitModelError, ...]]:
    """The cases of a plan in the order of its matrix, then those of ``include``; and why some are not among them.

    Cases that cannot be told apart are one: same key, same seed, same group. An option narrows a scenario: a case that
    the model of ``--model`` cannot be is left out.

    Raises:
        ScenarioError: there is no case or there are over 10,000, ``exclude`` matches nothing, or a case is refused.
    """
    count = math.prod(len(axis.choices) for axis in plan.axes) + len(plan.include)
    if count > CASES_LIMIT:
        raise plan.origin.error(f"expands to {count:,} cases, the limit is {CASES_LIMIT:,}; vary less at once")
    built, unfit = [], []
    for axes, settings in _points(plan):
        try:
            built.append(_case(plan, name, device, axes, settings))
        except UnfitModelError as error:
            unfit.append(error)
    if not built and not unfit:
        raise plan.origin.error("expands to no case: exclude drops every combination of the matrix")
    _refuse_lives_in_turn(plan, built)
    grouped = _distinct(_grouped(built, plan.interleave))
    sizes = Counter(case.group for case in grouped)
    # A group of one compares nothing: it is a case like any other.
    cases = _distinct(case if sizes[case.group] > 1 else replace(case, group=None) for case in grouped)
    return tuple(cases), tuple(unfit)


def _points(plan: Plan) -> Iterator[tuple[Axes, Settings]]:
    unmatched = set(range(len(plan.exclude)))
    for point in itertools.product(*(axis.choices for axis in plan.axes)):
        settings = dict(plan.fixed)
        for _, chosen in point:
            _overlay(settings, chosen)
        matched = {index for index, entry in enumerate(plan.exclude) if _matches(entry, settings)}
        unmatched -= matched
        if not matched:
            yield tuple((axis.key, value) for axis, (value, _) in zip(plan.axes, point, strict=True)), settings
    # An option narrows the matrix: what then matches nothing is no mistake of the file.
    if unmatched and not plan.overridden:
        raise plan.exclude[min(unmatched)].origin.error("matches no case of the matrix; correct it or leave it out")
    for entry in plan.include:
        settings = dict(plan.fixed)
        _overlay(settings, entry.settings)
        axes = {axis.key: entry.written.get(axis.key, _value(settings, axis.key)) for axis in plan.axes}
        yield tuple({**axes, **entry.written}.items()), settings


def _overlay(settings: Settings, chosen: Settings) -> None:
    merge(settings, chosen)
    if not has_adapter(settings) and (inside := [k for k in chosen if k.startswith("adapter.")]):
        raise chosen[inside[0]].origin.error(f"{inside[0]} is set where adapter is none; leave one of them out")


def _matches(entry: Entry, settings: Settings) -> bool:
    return all(_value(settings, key) == setting.value for key, setting in entry.settings.items())


def _value(settings: Settings, key: str) -> Any:
    """What the case has under a flat key, by default too; None for a key inside an adapter that there is not."""
    if key in settings:
        return settings[key].value
    if key == "adapter":
        return LORA
    if key.startswith("adapter."):
        if not has_adapter(settings):
            return None
        default = getattr(_DEFAULT_ADAPTER, key.removeprefix("adapter."))
        return list(default) if isinstance(default, tuple) else default
    return getattr(Case, key)


def _case(plan: Plan, name: str, device: str, axes: Axes, settings: Settings) -> Case:
    try:
        model = describe(settings["model"].value)
    except InputError as error:
        raise settings["model"].origin.error(str(error)) from error
    given = {key: setting.value for key, setting in settings.items()}
    adapter: Adapter | None = None
    if given.get("adapter") != NONE:
        # Of the architecture, unless the file says otherwise.
        own = (
            {}
            if model.family is None
            else {
                "target_modules": model.family.query_value,
                "task_type": model.family.task_types[0],
            }
        )
        adapter = Adapter(**(own | _inside(given, "adapter.")))
        adapter = replace(adapter, target_modules=_names(adapter.target_modules))
    else:
        given.setdefault("adapter_state", "base")
    case = Case(
        scenario=name,
        adapter=adapter,
        measure=Measure(**_inside(given, "measure.")),
        axes=tuple((key, frozen(value)) for key, value in axes),
        architecture=model.digest,
        **{key: value for key, value in given.items() if "." not in key and key != "adapter"},
    )
    refuse(case, model, settings, device, plan.origin)
    return case


def _inside(given: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in given.items() if key.startswith(prefix)}


def _names(targets: Any) -> tuple[str, ...] | str:
    return targets if isinstance(targets, str) else tuple(targets)


def _refuse_lives_in_turn(plan: Plan, cases: Iterable[Case]) -> None:
    if plan.interleave and any(case.task == "lifecycle" for case in cases):
        axis = next(axis for axis in plan.axes if axis.key in plan.interleave)
        raise axis.origin.error("a lifecycle has no steps to time in turn with others; leave interleave out")


def _grouped(cases: Iterable[Case], interleave: tuple[str, ...]) -> Iterator[Case]:
    for case in cases:
        shared = replace(case, axes=tuple(axis for axis in case.axes if axis[0] not in interleave))
        yield replace(case, group=shared.name) if interleave else case


def _distinct(cases: Iterable[Case]) -> list[Case]:
    first: dict[tuple[str, int, str | None], Case] = {}
    for case in cases:
        first.setdefault((case.key, case.seed, case.group), case)
    return list(first.values())
