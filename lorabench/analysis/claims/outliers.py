"""Dynamic memory of int8 above outlier threshold 0, told beside that at 0 or of pretrained weights, and never alone.

How many columns of random weights are outliers is an accident of the initialisation, and the bytes follow it: told
beside prices at threshold 0, or of other checkpointing, they would look like what the threshold itself costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from lorabench.analysis.claims.evidence import Evidence, Where, dynamic_bytes, setting, static_bytes
from lorabench.analysis.claims.words import listed
from lorabench.case import Case
from lorabench.record import Record

Pair = tuple[Record, Record]
"""16 bits and int8, alike in all else."""
Alike = tuple[Pair, ...]
"""A pair above outlier threshold 0, after that of the same case at 0 where there is one."""

_T = TypeVar("_T")


def is_honest(pair: Pair) -> bool:
    """At outlier threshold 0: above it the dynamic bytes of random weights are an accident of the initialisation."""
    return bool(setting(pair[1], "int8_threshold") == 0)


def beside(evidence: Evidence, where: Where, pairs: Sequence[Pair]) -> list[Alike]:
    """What may be told of a threshold above 0: those of ``pairs`` that were run at 0, too, or have pretrained weights.

    ``where`` is what all of them have. Each of int8 counts once: fp16 and bf16 take the same bytes.
    """
    at_zero = {
        other.key: records[0]
        for records in evidence.series("int8_threshold", {**where, "quantization": "int8"})
        if setting(records[0], "int8_threshold") == 0 and static_bytes(records[0]) and dynamic_bytes(records[0])
        for other in records[1:]
    }
    found: dict[str, Alike] = {}
    # The last counts: the pair whose 16 bits are the type in which int8's other layers compute.
    for half, int8 in sorted(pairs, key=_computes_alike):
        if is_honest((half, int8)):
            continue
        if int8.key in at_zero:
            found[int8.key] = ((half, at_zero[int8.key]), (half, int8))
        elif setting(int8, "weights") == "pretrained":
            found[int8.key] = ((half, int8),)
    return list(found.values())


def _computes_alike(pair: Pair) -> bool:
    return bool(setting(pair[0], "quantization") == setting(pair[1], "compute_dtype"))


def told_outliers(cases: Sequence[Alike], pairs: Iterable[Pair], timed: Sequence[Record]) -> str:
    """Sentences on dynamic memory above outlier threshold 0; empty where there is none to tell.

    ``pairs`` are those of which the price is told, and ``timed`` the records of which the times are.
    """
    above = [pair for pair in pairs if not is_honest(pair)]
    cases = [case for case in cases if case[-1][1].key not in {int8.key for _, int8 in above}]
    told = [_told_above(group) for group in _grouped(above, lambda pair: _threshold_and_weights(pair[1]))]
    if cases and not above:
        what = "Dynamic memory" if any(setting(record, "int8_threshold") for record in timed) else "All of it"
        told.append(f" {what} at outlier threshold 0.")
    told += [_told_beside(group) for group in _grouped(cases, lambda case: _threshold_and_weights(case[-1][1]))]
    return "".join(told)


def share_of_outliers(record: Record) -> float | None:
    """Outlier columns as a share of all, in the layer that had most of them."""
    return max((share for share, _ in _shares(record)), default=None)


def dynamic_ratio(pair: Pair) -> float:
    half, int8 = pair
    return dynamic_bytes(int8) / dynamic_bytes(half)


def span(values: Iterable[float | None]) -> str:
    """``1.03 to 1.24``, or one number where they are as good as equal."""
    known = [value for value in values if value is not None]
    if not known:
        return "unknown"
    ends = f"{min(known):.2f}"
    return ends if max(known) - min(known) < 0.005 else f"{ends} to {max(known):.2f}"


def _told_above(pairs: Sequence[Pair]) -> str:
    """Of which models the price itself is of such cases, for want of others."""
    threshold, weights = _threshold_and_weights(pairs[0][1])
    models = listed(str(setting(int8, "model")) for _, int8 in pairs)
    accident = ": how many of their columns are outliers is an accident of the initialisation"
    return (
        f" Dynamic memory on {models} is at outlier threshold {threshold:g} with {weights} weights"
        f"{accident if weights == 'random' else ''}{_told_share(int8 for _, int8 in pairs)}."
    )


def _told_beside(cases: Sequence[Alike]) -> str:
    """A sentence on cases of one threshold and of one kind of weights."""
    threshold, weights = _threshold_and_weights(cases[0][-1][1])
    at = f"the default of {threshold:g}" if threshold == Case.int8_threshold else f"a threshold of {threshold:g}"
    modes = _grouped(cases, lambda case: (*_mode_order(case[-1][1]), len(case)))
    return (
        f" At {at}, where outlier columns are multiplied apart, dynamic memory with {weights} weights"
        f"{_told_share(case[-1][1] for case in cases)} is {', '.join(map(_told_mode, modes))}."
    )


def _told_mode(cases: Sequence[Alike]) -> str:
    """Cases of one checkpointing mode, all of which were run at threshold 0, too, or none."""
    mode = setting(cases[0][-1][1], "gradient_checkpointing")
    told = span(dynamic_ratio(case[-1]) for case in cases)
    told += " without checkpointing" if mode == "none" else f" with {mode} checkpointing"
    return told if len(cases[0]) == 1 else f"{told} (at 0: {span(dynamic_ratio(case[0]) for case in cases)})"


def _mode_order(int8: Record) -> tuple[bool, str]:
    mode = str(setting(int8, "gradient_checkpointing"))
    return mode != "none", mode


def _threshold_and_weights(int8: Record) -> tuple[float, str]:
    return float(setting(int8, "int8_threshold") or 0), str(setting(int8, "weights"))


def _told_share(records: Iterable[Record]) -> str:
    """How many of a layer's columns were outliers, in the layer that had most of them; empty where none was counted."""
    share, layer = max((one for record in records for one in _shares(record)), default=(None, ""))
    if share is None:
        return ""
    return f" (up to {100 * share:.3g}% of a {layer}'s columns are outliers)" if share else " (no column is an outlier)"


def _shares(record: Record) -> list[tuple[float, str]]:
    """With the layer's own name, without those of what it is in."""
    shares = record.proof.outlier_share if record.proof else {}
    return [(share, layer.rpartition(".")[2]) for layer, share in shares.items()]


def _grouped(items: Iterable[_T], key: Callable[[_T], Any]) -> list[list[_T]]:
    """In the order of their keys."""
    groups: dict[Any, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return [groups[name] for name in sorted(groups)]
