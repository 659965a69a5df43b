"""The page of a comparison in a real browser: shared axes, every sample, names as text, no request."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from browsing import CONTRAST
from command_line import lorabench_in
from playwright.sync_api import Browser, Page

from lorabench.case import Adapter
from lorabench.environment import EnvironmentDevice
from lorabench.record import Memory, RecordDevice, Timing
from lorabench.report.page.canvas import shortened_apart

MIB = 2**20
NASTY = "<script>window.owned=1</script><img src=x onerror=window.owned=1>"
DRAWN = "#charts[data-drawn]"


@pytest.fixture
def url(tmp_path, environment, make_record) -> str:
    """Two ranks whose peak and time grew, one with a name that is markup, and a case of the head alone."""
    gpu = replace(environment, id="f" * 12, device=EnvironmentDevice("cuda", NASTY, 80 << 30))
    newer = replace(gpu, id="e" * 12, versions={**gpu.versions, "peft": "0.22.0"})
    for side, where, extra in (("base", gpu, 0), ("head", newer, 8)):
        records = []
        for rank in (2, 16, NASTY, 64)[: 3 if side == "base" else 4]:
            step = [(10 + extra + number / 10) / 1000 for number in range(5)]
            records.append(
                make_record(
                    case={
                        "adapter": Adapter(rank=rank if isinstance(rank, int) else 3),
                        "axes": (("adapter.rank", rank),),
                    },
                    environment=where.id,
                    device=RecordDevice("cuda", NASTY),
                    memory=Memory(
                        100 * MIB,
                        (50 + extra) * MIB,
                        (150 + extra) * MIB,
                        512 * MIB,
                        categories={"activations": (50 + extra) * MIB},
                    ),
                    latency={"step": Timing(tuple(step), step[2], (step[0], step[4]), False)},
                )
            )
        lines = [json.dumps(line.to_dict()) + "\n" for line in (where, *records)]
        (tmp_path / f"{side}.jsonl").write_text("".join(lines))
    done = lorabench_in(tmp_path, "compare", "base.jsonl", "head.jsonl", "--out", "reports", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "page: reports/comparison.html\n"
    return (tmp_path / "reports" / "comparison.html").as_uri()


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Callable[..., Page]]:
    """Opens the page; when the test is over, there must have been no error and no request."""
    trouble: list[str] = []
    contexts = []

    def visit(width: int = 1440, scheme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on("request", lambda one: trouble.append(one.url) if one.url.partition("#")[0] != url else None)
        page.goto(url)
        page.wait_for_selector(DRAWN)
        return page

    yield visit
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("window.owned") is None
        context.close()
    assert [one for one in trouble if not one.startswith(("data:", "blob:"))] == []


def drawn(page: Page, chart: str) -> dict[str, list[float]]:
    return dict(page.evaluate(f"document.getElementById('chart-{chart}').data.map(one => [one.name, one.x])"))


def test_base_and_head_stand_on_one_axis(visit):
    page = visit()
    assert drawn(page, "memory") == {
        "base, static": [100] * 3,
        "base, dynamic": [50] * 3,
        "head, static": [100] * 3,
        "head, dynamic": [58] * 3,
        "peak": [150] * 3 + [158] * 3,
    }
    assert drawn(page, "reserved") == {"base, reserved": [512] * 3, "head, reserved": [512] * 3}
    times = drawn(page, "time")
    assert [round(x, 6) for x in times["base, sample"]] == [10, 10.1, 10.2, 10.3, 10.4] * 3
    assert [round(x, 6) for x in times["head, sample"]] == [18, 18.1, 18.2, 18.3, 18.4] * 3
    assert [round(x, 6) for x in times["median, 95% interval"]] == [10.2] * 3 + [18.2] * 3


def test_what_changed_comes_with_bytes_and_the_category(visit):
    page = visit()
    text = page.locator("#changes table").first.inner_text()
    assert re.search(r"peak allocated\s+150\.0\s+158\.0\s+\+8 MiB\s+\+5\.3%\s+activations \+8 MiB", text)
    assert re.search(r"step\s+10\.2 ±0\.2\s+18\.2 ±0\.2\s+\+8 ms\s+\+78\.4%", text)
    assert "0.21.2" in page.locator(".notice").inner_text()
    page.get_by_text("Cases in the head alone").click()
    assert "ranks[adapter.rank=64]" in page.locator("#changes").inner_text()


def test_names_from_files_are_text(visit):
    page = visit()
    assert NASTY in page.locator("h3").last.inner_text()
    assert NASTY in page.locator("#changes").inner_text()
    assert "<script>" in page.locator("#chart-memory").evaluate("one => one.textContent")


def test_labels_that_are_cut_can_be_told_apart(browser, tmp_path, environment, make_record):
    tail = ("gradient_checkpointing", "none")
    cases = [
        *((("adapter.rank", rank), tail) for rank in (8, 64)),
        *((("adapter.rank", 8), ("batch_size", size), tail) for size in (2, 4)),
        (("adapter.rank", 16),),
    ]
    lines = [environment, *(make_record(case={"axes": axes}, seed=seed) for seed, axes in enumerate(cases))]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line.to_dict()) + "\n" for line in lines))
    assert lorabench_in(tmp_path, "compare", "r.jsonl", "r.jsonl", "--out", ".").returncode == 0
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto((tmp_path / "comparison.html").as_uri())
    page.wait_for_selector(DRAWN)
    ticks = page.evaluate("document.getElementById('chart-memory').layout.yaxis.ticktext")
    told = ["\n".join(line.strip() for line in tick.split("<br>")) for tick in ticks]
    names = [" ".join(f"{axis}={value}" for axis, value in axes) for axes in cases]
    assert "adapter.rank=64\ngradient_…nting=none" in told
    # As a claim's figure has them; but whole, where two lines of two would be the same.
    assert sorted(told) == sorted(
        [
            *shortened_apart([names[0], names[1], names[4]], 20),
            *(f"adapter.rank=8\nbatch_size={size}\ngradient_checkpointi\nng=none" for size in (2, 4)),
        ]
    )
    page.close()


def test_the_theme_can_be_switched_and_the_charts_follow(visit):
    page = visit()
    ink = "document.getElementById('chart-memory').layout.font.color"
    before = page.evaluate(ink)
    page.click("#theme")
    page.wait_for_function("Number(document.getElementById('charts').dataset.drawn) > 1")
    assert page.evaluate(ink) != before


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_text_can_be_read(visit, width, scheme):
    page = visit(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    worst = page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst


def test_print_has_the_table_and_no_controls(visit):
    page = visit(scheme="dark")
    page.emulate_media(media="print")
    assert page.locator("#changes table").first.is_visible()
    assert not page.locator("#charts").is_visible()
    assert not page.locator(".top").is_visible()
