"""How often the verdict is right: comparisons drawn again and again from a pool (:mod:`lorabench.ab.pool`).

``python -m lorabench.ab.rates POOL...`` prints, as Markdown, a row for each slow-down in each pool. The row of
identical code gives base and head to the samples by lot: whatever is called slower or faster there is a false alarm.
The others compare slowed samples with those that are not. Each run takes its samples and its looks as the command
would: pairs of neighbours in time, beginning with one drawn by lot, in blocks, until the verdict is settled or the
pairs run out. ``--shuffled`` draws batches and samples in any order, for a pool that is small.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, stdev
from typing import Any

from lorabench.ab.order import BLOCK_PAIRS
from lorabench.analysis.paired import Family, Rules, Verdict

HEADER = "| pool | case | samples | slow-down | measured | spread of a pair | runs | {} | pairs, median | pairs, most |"
VERDICTS: tuple[Verdict, ...] = ("slower", "faster", "equivalent", "inconclusive")


@dataclass(frozen=True)
class Pool:
    """``batches``: the step's median seconds of each sample in the order taken, by slow-down (0 for none)."""

    name: str
    case: str
    device: str
    batches: tuple[Mapping[float, tuple[float, ...]], ...]

    @property
    def slowed(self) -> list[float]:
        return sorted({kind for batch in self.batches for kind in batch} - {0.0})

    def values(self, kind: float) -> list[float]:
        return [value for batch in self.batches for value in batch.get(kind, ())]


@dataclass(frozen=True)
class Rates:
    """What came of the runs: verdicts, and the pairs after which each was settled or given up."""

    verdicts: Mapping[Verdict, int]
    pairs: tuple[int, ...]

    @property
    def runs(self) -> int:
        return len(self.pairs)


def read_pool(path: Path) -> Pool:
    """The pool in a file of :mod:`lorabench.ab.pool`."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    batches: dict[int, dict[float, list[float]]] = {}
    for line in lines:
        if line["type"] == "sample":
            batches.setdefault(line["batch"], {}).setdefault(line["slow"], []).append(line["step_s"])
    header = lines[0]
    case = header["case"]
    return Pool(
        path.name,
        f"{case['model']}, {case['quantization']}, {case['batch_size']}x{case['sequence_length']}",
        header["environment"]["device"]["name"],
        tuple({kind: tuple(values) for kind, values in batches[number].items()} for number in sorted(batches)),
    )


def draw(pool: Pool, kind: float, lot: random.Random, shuffled: bool) -> Iterator[float]:
    """Log-ratios of head by base, pair after pair, each sample once; ``kind`` 0 compares identical code."""
    pairs = list(_pairs(pool, kind, lot if shuffled else None))
    first = lot.randrange(len(pairs))
    for base, head in (*pairs[first:], *pairs[:first]):
        yield math.log(head / base)


def _pairs(pool: Pool, kind: float, lot: random.Random | None) -> Iterator[tuple[float, float]]:
    """Neighbours of one batch, in time; with ``lot`` in any order."""
    batches = list(pool.batches)
    if lot:
        lot.shuffle(batches)
    for batch in batches:
        base, head = list(batch.get(0.0, ())), list(batch.get(kind, ()))
        if lot:
            lot.shuffle(base)
            lot.shuffle(head)
        if not kind:
            base, head = base[::2], base[1::2]
        yield from zip(base, head, strict=False)


def labels(lot: random.Random) -> Iterator[int]:
    """1 or -1 for each pair: which of two equal samples is called head, balanced in blocks like the command's order."""
    while True:
        block = [1, -1] * (BLOCK_PAIRS // 2)
        lot.shuffle(block)
        yield from block


def rates(pool: Pool, kind: float, runs: int, rules: Rules, seed: int = 0, shuffled: bool = False) -> Rates:
    """The verdicts of ``runs`` comparisons; the same for the same ``seed``."""
    lot = random.Random(f"{seed}:{pool.name}:{kind}")
    verdicts: Counter[Verdict] = Counter()
    taken = []
    for _ in range(runs):
        family = Family(1, rules)
        signs = labels(lot)
        pairs = 0
        for log_ratio in draw(pool, kind, lot, shuffled):
            family.add(0, log_ratio if kind else next(signs) * log_ratio)
            pairs += 1
            if pairs == rules.pairs:
                break
            if pairs % BLOCK_PAIRS == 0:
                family.look(0)
                if family.judgement(0).settled:
                    break
        family.look(0, final=True)
        verdicts[family.judgement(0).verdict] += 1
        taken.append(pairs)
    return Rates(verdicts, tuple(taken))


def row(pool: Pool, kind: float, found: Rates) -> str:
    """A row of the table. ``measured`` is the median of slowed samples by that of the others."""
    base, head = pool.values(0.0), pool.values(kind)
    samples = len(base) if kind == 0 else len(base) + len(head)
    lot = random.Random(0)
    spread = stdev(draw(pool, kind, lot, shuffled=False))
    cells = [
        pool.name,
        pool.case,
        str(samples),
        f"{kind:.0%}" if kind else "none (A/A)",
        f"{median(head) / median(base) - 1:+.1%}" if kind else "",
        f"{spread:.2%}",
        str(found.runs),
        *(f"{found.verdicts.get(verdict, 0) / found.runs:.1%}" for verdict in VERDICTS),
        f"{median(found.pairs):g}",
        str(max(found.pairs)),
    ]
    return f"| {' | '.join(cells)} |"


def table(pools: Sequence[Pool], runs: int, rules: Rules, seed: int, shuffled: bool) -> str:
    """The Markdown table."""
    header = HEADER.format(" | ".join(VERDICTS))
    rule = "|" + " --- |" * header.count(" | ") + " --- |"
    rows = [
        row(pool, kind, rates(pool, kind, runs, rules, seed, shuffled))
        for pool in pools
        for kind in (0.0, *pool.slowed)
    ]
    return "\n".join([header, rule, *rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """As on the command line."""
    options = _arguments(arguments)
    rules = Rules(alpha=options.alpha, floor=options.floor, pairs=options.pairs)
    pools = [read_pool(path) for path in options.pools]
    print(table(pools, options.runs, rules, options.seed, options.shuffled))  # noqa: T201 - its result


def _arguments(arguments: Sequence[str] | None) -> Any:
    defaults = Rules()
    parser = argparse.ArgumentParser(prog="lorabench.ab.rates", description=__doc__.split("\n\n")[0])
    parser.add_argument("pools", type=Path, nargs="+", metavar="POOL")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--alpha", type=float, default=defaults.alpha)
    parser.add_argument("--floor", type=float, default=defaults.floor)
    parser.add_argument("--pairs", type=int, default=defaults.pairs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shuffled", action="store_true", help="take batches and pairs in any order")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
