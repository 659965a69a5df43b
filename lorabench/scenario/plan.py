"""A scenario as one device runs it: overrides merged in, every setting under a flat key, with where it was written.

Flat keys are those of ``matrix``: ``adapter.rank``, not ``adapter: {rank: ...}``. The key ``adapter`` itself then says
only whether there is one: ``none`` or ``lora``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lorabench.errors import ScenarioError
from lorabench.scenario.document import Document, KeyPath, spell
from lorabench.wording import did_you_mean

NONE, LORA = "none", "lora"


@dataclass(frozen=True)
class Origin:
    """Where a value was written, for messages about it: a file and a line, or an option and no line."""

    file: str
    line: int | None
    key: str

    def error(self, message: str) -> ScenarioError:
        return ScenarioError(self.file, self.line, self.key, message)


@dataclass(frozen=True)
class Setting:
    value: Any
    origin: Origin


Settings = dict[str, Setting]


@dataclass(frozen=True)
class Axis:
    """One varied key: ``choices`` pairs each value as it was written with the flat settings that it means."""

    key: str
    origin: Origin
    choices: tuple[tuple[Any, Settings], ...]


@dataclass(frozen=True)
class Entry:
    """One entry of ``exclude`` or ``include``; ``written`` holds its values under the keys of the file."""

    origin: Origin
    written: Mapping[str, Any]
    settings: Settings


@dataclass(frozen=True)
class Plan:
    """What a scenario expands from. ``overridden`` tells that an option changed what the file says."""

    origin: Origin
    fixed: Settings
    axes: tuple[Axis, ...]
    exclude: tuple[Entry, ...]
    include: tuple[Entry, ...]
    interleave: tuple[str, ...]
    overridden: bool


def make_plan(document: Document, data: Mapping[str, Any], device: str, options: Settings) -> Plan:
    """The plan of a validated file for ``device``.

    An option fixes its key in every case: an axis of that key is dropped, and so is the key in ``include``.

    Raises:
        ScenarioError: ``interleave`` names no axis, an adapter varies in two ways, or an option does not apply.
    """
    layers: list[tuple[Mapping[str, Any], KeyPath]] = [(data, ())]
    section = "cpu" if device == "cpu" else "cuda"
    if section in data.get("devices", {}):
        layers.append((data["devices"][section], ("devices", section)))
    fixed: Settings = {}
    axes: dict[str, Axis] = {}
    for values, above in layers:
        merge(fixed, _fixed(document, values, above))
        axes |= _axes(document, values.get("matrix", {}), (*above, "matrix"))
    exclude = _entries(document, layers, "exclude")
    include = _entries(document, layers, "include")
    interleave = _interleave(document, layers, axes)
    _refuse_double(axes)
    if options:
        axes, include = _apply(options, fixed, axes, include)
    return Plan(
        origin=_origin(document, ("scenario",)),
        fixed=fixed,
        axes=tuple(axes.values()),
        exclude=tuple(exclude),
        include=tuple(include),
        interleave=tuple(key for key in interleave if key in axes),
        overridden=bool(options),
    )


def merge(settings: Settings, more: Settings) -> None:
    """Lay ``more`` over ``settings``; an adapter that is switched off takes its settings with it."""
    if "adapter" in more and more["adapter"].value == NONE:
        for key in [key for key in settings if key.startswith("adapter.")]:
            del settings[key]
    settings.update(more)


def has_adapter(settings: Settings) -> bool:
    return "adapter" not in settings or settings["adapter"].value != NONE


def flatten(key: str, value: Any, origin: Origin) -> Settings:
    """The flat settings that ``key: value`` means."""
    if key == "adapter" and isinstance(value, Mapping):
        inside = {f"adapter.{name}": Setting(item, origin) for name, item in value.items()}
        return {"adapter": Setting(LORA, origin), **inside}
    return {key: Setting(value, origin)}


def _origin(document: Document, path: KeyPath) -> Origin:
    return Origin(document.file, document.line(path), spell(path))


_NOT_SETTINGS = frozenset({"scenario", "question", "devices", "matrix", "exclude", "include", "interleave"})


def _fixed(document: Document, values: Mapping[str, Any], above: KeyPath) -> Settings:
    settings: Settings = {}
    for key, value in values.items():
        if key in _NOT_SETTINGS:
            continue
        origin = _origin(document, (*above, key))
        settings |= flatten(key, value, origin)
        if isinstance(value, Mapping):
            # Each key inside has a line of its own.
            settings.pop("measure", None)
            for name, item in value.items():
                settings[f"{key}.{name}"] = Setting(item, _origin(document, (*above, key, name)))
    return settings


def _axes(document: Document, matrix: Mapping[str, Any], above: KeyPath) -> dict[str, Axis]:
    axes = {}
    for key, values in matrix.items():
        choices = tuple(
            (value, flatten(key, value, _origin(document, (*above, key, index)))) for index, value in enumerate(values)
        )
        axes[key] = Axis(key, _origin(document, (*above, key)), choices)
    return axes


def _entries(document: Document, layers: Iterable[tuple[Mapping[str, Any], KeyPath]], name: str) -> list[Entry]:
    """The entries of the last layer that gives any: a device's list replaces the file's."""
    entries: list[Entry] = []
    for values, above in layers:
        if name in values:
            entries = [_entry(document, point, (*above, name, index)) for index, point in enumerate(values[name])]
    return entries


def _entry(document: Document, point: Mapping[str, Any], path: KeyPath) -> Entry:
    settings: Settings = {}
    # adapter before adapter.rank, whichever was written first.
    for key in sorted(point):
        settings |= flatten(key, point[key], _origin(document, (*path, key)))
    return Entry(_origin(document, path), point, settings)


def _interleave(
    document: Document, layers: Iterable[tuple[Mapping[str, Any], KeyPath]], axes: Mapping[str, Axis]
) -> list[str]:
    keys: list[str] = []
    where: KeyPath = ()
    for values, above in layers:
        if "interleave" in values:
            keys, where = values["interleave"], (*above, "interleave")
    for index, key in enumerate(keys):
        if key not in axes:
            hint = did_you_mean(key, axes) or f"; axes are {', '.join(axes) or 'none: there is no matrix'}"
            raise document.error((*where, index), f"{key!r} is no axis of the matrix{hint}")
        if key in keys[:index]:
            raise document.error((*where, index), f"{key!r} is given twice; keep one")
    return keys


def _refuse_double(axes: Mapping[str, Axis]) -> None:
    inside = [key for key in axes if key.startswith("adapter.")]
    if "adapter" in axes and inside:
        name = inside[0].removeprefix("adapter.")
        raise axes[inside[0]].origin.error(
            f"the matrix varies adapter as a whole already; write {name} into the values of adapter"
        )


def _apply(
    options: Settings, fixed: Settings, axes: dict[str, Axis], include: list[Entry]
) -> tuple[dict[str, Axis], list[Entry]]:
    whole = "adapter" in options
    inside = {key: setting for key, setting in options.items() if key.startswith("adapter.")}
    varied = axes.get("adapter")
    if inside and varied is None and not whole and not has_adapter(fixed):
        raise next(iter(inside.values())).origin.error("the scenario has adapter: none; add --set 'adapter={}'")
    merge(fixed, options)

    def is_free(key: str) -> bool:
        return key not in options and not (whole and key.startswith("adapter."))

    left = {key: axis for key, axis in axes.items() if is_free(key)}
    if varied is not None and not whole:
        left["adapter"] = Axis("adapter", varied.origin, tuple(_patched(choice, inside) for choice in varied.choices))
    entries = []
    for entry in include:
        written = {key: value for key, value in entry.written.items() if is_free(key)}
        settings = {key: setting for key, setting in entry.settings.items() if is_free(key)}
        if written:
            entries.append(Entry(entry.origin, written, settings))
    return left, entries


def _patched(choice: tuple[Any, Settings], inside: Settings) -> tuple[Any, Settings]:
    """A value of the axis ``adapter`` under options such as ``adapter.rank``; ``none`` stays none."""
    written, settings = choice
    if not isinstance(written, Mapping):
        return choice
    named = {key.removeprefix("adapter."): setting.value for key, setting in inside.items()}
    patched = {name: named.get(name, value) for name, value in written.items()}
    return patched, {key: setting for key, setting in settings.items() if key not in inside}
