"""Figures: they draw the numbers that they are given, whatever is in the names."""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_material import MIB, verdicts

from lorabench.analysis.claims.claim import Figure
from lorabench.record import Memory, Timing
from lorabench.report.page.canvas import shortened_apart
from lorabench.report.page.claim_figure import draw_claim
from lorabench.report.page.claim_series import MOST_BARS, MOST_SERIES
from lorabench.report.page.palette import DYNAMIC, SERIES, STATIC
from lorabench.report.page.scenario_figure import draw_scenario
from lorabench.report.page.scenarios import Row
from lorabench.report.page.svg import inlined

NASTY = "<script>alert('$x_1$')</script> & \x07 \u2603"


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def boxes(svg: str, colour: str) -> list[tuple[float, float]]:
    """Width and height of each filled rectangle of a colour."""
    found = []
    for path in re.findall(rf'<path d="([^"]*)"[^>]*style="fill: {colour}[";]', svg):
        numbers = [float(part) for part in re.findall(r"-?\d+(?:\.\d+)?", path)]
        x, y = numbers[::2], numbers[1::2]
        found.append((max(x) - min(x), max(y) - min(y)))
    return found


@pytest.mark.parametrize("kind", ["bars", "lines", "points"])
@pytest.mark.parametrize("x", ["size", "name"])
def test_every_kind_is_drawn_as_svg_and_png(kind, x):
    rows = [{"size": 2**n, "name": NASTY, "s": f"{NASTY}{n % 2}", "value_bytes": 2**20 * n} for n in range(1, 5)]
    drawn = draw_claim("f", Figure(kind, x, "value_bytes", series="s", log_x=True), rows)
    assert ET.fromstring(drawn.svg).tag.endswith("svg")
    assert drawn.png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", drawn.png[16:24])
    assert width > height > 200


def test_bars_are_as_long_as_their_values():
    rows = [{"model": "a", "ratio": 0.25}, {"model": "b", "ratio": 1.0}]
    first, second = (
        height for _, height in boxes(draw_claim("f", Figure("bars", "model", "ratio"), rows).svg, SERIES[0])
    )
    assert second / first == pytest.approx(4.0, rel=1e-3)


def test_bars_with_long_names_lie():
    rows = [{"model": "a model with a long name", "ratio": 0.25}, {"model": "b", "ratio": 1.0}]
    first, second = (
        width for width, _ in boxes(draw_claim("f", Figure("bars", "model", "ratio"), rows).svg, SERIES[0])
    )
    assert second / first == pytest.approx(4.0, rel=1e-3)


def test_axes_say_units_and_values():
    rows = [{"batch": size, "dynamic_bytes": size * 3 * MIB} for size in (1, 2, 4)]
    said = texts(draw_claim("f", Figure("lines", "batch", "dynamic_bytes", log_x=True), rows).svg)
    assert "dynamic (MiB)" in said
    assert {"1", "2", "4", "batch"} <= set(said)


def test_values_that_are_missing_are_left_out():
    rows = [{"model": "a", "ratio": None}, {"model": "b", "ratio": 1.0}]
    drawn = draw_claim("f", Figure("bars", "model", "ratio"), rows)
    assert len(boxes(drawn.svg, SERIES[0])) == 1
    assert "a" not in texts(drawn.svg)


def test_too_many_bars_are_capped():
    rows = [{"model": f"m{n}", "ratio": 1.0} for n in range(MOST_BARS + 20)]
    drawn = draw_claim("f", Figure("bars", "model", "ratio"), rows)
    assert len(boxes(drawn.svg, SERIES[0])) == MOST_BARS
    assert "20 more in the table" in texts(drawn.svg)


@pytest.mark.parametrize("kind", ["bars", "lines", "points"])
def test_more_cases_and_series_than_a_figure_has_are_no_fault_of_any_kind(kind):
    rows = [{"model": f"m{n}", "kind": f"k{n % 15}", "ratio": 1.0 + n, "high": 2.0 + n} for n in range(60)]
    drawn = draw_claim("f", Figure(kind, "model", "ratio", series="kind", high="high"), rows)
    assert {"3 more in the table"} <= set(texts(drawn.svg))


@pytest.mark.parametrize(("count", "told"), [(MOST_SERIES, False), (MOST_SERIES + 2, True)])
def test_series_that_are_not_drawn_are_told(count, told):
    rows = [{"model": "a", "kind": f"k{n}", "ratio": 1.0} for n in range(count)]
    assert (
        "2 more in the table" in texts(draw_claim("f", Figure("bars", "model", "ratio", series="kind"), rows).svg)
    ) == told


@pytest.mark.parametrize("kind", ["bars", "lines", "points"])
def test_series_that_a_finding_leaves_to_its_table_are_told(kind):
    rows = [{"size": size, "kind": f"k{n}", "ratio": 1.0} for n in range(5) for size in (1, 2)]
    said = texts(draw_claim("f", Figure(kind, "size", "ratio", series="kind"), rows, ("k1", "k4")).svg)
    assert {"k1", "k4", "3 more in the table"} <= set(said)
    assert not {"k0", "k2", "k3"} & set(said)


def test_ticks_of_fractions_are_short():
    rows = [{"times": times, "ratio": 1.0} for times in (1, 5.452, 49.95, 96.48, 2048)]
    said = texts(draw_claim("f", Figure("lines", "times", "ratio", log_x=True), rows).svg)
    assert {"1", "5.45", "50", "96", "2,048"} <= set(said)


def test_names_are_text_and_no_formula():
    drawn = draw_claim("f", Figure("bars", "model", "ratio"), [{"model": "a$b$c<d>", "ratio": 1.0}])
    assert "a$b$c<d>" in texts(drawn.svg)


def row(label: str, static: int, dynamic: int, reserved: int | None = None) -> Row:
    memory = Memory(static, dynamic, static + dynamic, reserved, reserved and reserved + MIB)
    return Row(label, memory, (Timing((0.01, 0.012, 0.011), 0.011, (0.010, 0.012), unstable=False), None))


@pytest.mark.parametrize("kind", ["bars", "points"])
def test_names_that_are_cut_can_be_told_apart(kind):
    names = [f"a-model-7b bf16 {mode}, 4 x 512" for mode in ("non-reentrant", "reentrant")]
    rows = [{"case": name, "ratio": 1.0} for name in (*names, "a-model-7b nf4 none, 16 x 512")]
    told = texts(draw_claim("f", Figure(kind, "case", "ratio"), rows).svg)
    # A text on two lines is two texts.
    lines = ["a-model-7b bf16", "non-reentrant, 4 x 512", "a-model-7b bf16 reentrant,", "4 x 512"]
    assert [text for text in told if text.startswith(("a-model", "non-", "4 x"))] == [
        *lines,
        "a-model-7b n…one, 16 x 512",
    ]


def test_bars_that_would_lie_on_each_other_get_rows_of_their_own():
    rows = [
        {"weights": weights, "mode": "some", "case": weights, "model": model, "share": "same", "ratio": 1.0}
        for weights in ("bf16", "nf4")
        for model in ("small", "large")
    ]
    svg = draw_claim("f", Figure("bars", "weights", "ratio", series="mode"), rows).svg
    # And one in the legend.
    assert len(boxes(svg, SERIES[0])) == 4 + 1
    assert [text for text in texts(svg) if text.startswith(("bf16", "nf4"))] == [
        "bf16 small",
        "bf16 large",
        "nf4 small",
        "nf4 large",
    ]


def test_repeats_of_one_case_get_numbered_bars():
    rows = [
        {"weights": "bf16", "mode": mode, "ratio": ratio}
        for mode, ratio in (("some", 1.0), ("some", 2.0), ("all", 3.0), ("some", 4.0))
    ]
    svg = draw_claim("f", Figure("bars", "weights", "ratio", series="mode"), rows).svg
    # And one in the legend.
    assert (len(boxes(svg, SERIES[0])), len(boxes(svg, SERIES[1]))) == (3 + 1, 1 + 1)
    assert [text for text in texts(svg) if text.startswith("bf16")] == ["bf16", "bf16 #2", "bf16 #3"]
    assert {"1", "2", "3", "4"} <= set(texts(svg))
    models = [{**row, "model": model} for row in rows[:2] for model in ("small", "large")]
    svg = draw_claim("f", Figure("bars", "weights", "ratio", series="mode"), models).svg
    assert [text for text in texts(svg) if text.startswith("bf16")] == [
        "bf16 small",
        "bf16 large",
        "bf16 small #2",
        "bf16 large #2",
    ]


@given(st.lists(st.text("ab -", max_size=12), min_size=1, max_size=8), st.integers(5, 9))
def test_names_are_cut_to_two_lines_at_most(names, most):
    for name, short in zip(names, shortened_apart(names, most), strict=True):
        lines = short.split("\n")
        assert len(lines) <= 2
        assert max(map(len, lines)) <= most
        if len(name) <= most:
            assert short == name


def test_a_scenario_stacks_dynamic_on_static():
    drawn = draw_scenario("f", ["step", "decode"], [row("a", 10 * MIB, 30 * MIB), row(NASTY, 20 * MIB, 20 * MIB)])
    static = sorted(width for width, _ in boxes(drawn.svg, STATIC))
    dynamic = sorted(width for width, _ in boxes(drawn.svg, DYNAMIC))
    # The smallest of each is the legend's.
    assert static[2] / static[1] == pytest.approx(2.0, rel=1e-3)
    assert dynamic[2] / static[1] == pytest.approx(3.0, rel=1e-3)
    assert {"allocated (MiB)", "step (ms)", "peak"} <= set(texts(drawn.svg))


def test_a_scenario_shows_the_allocators_numbers_where_there_is_one():
    drawn = draw_scenario("f", ["step"], [row("a", MIB, MIB, reserved=4 * MIB)])
    assert {"allocated", "reserved", "device used", "peaks (MiB)"} <= set(texts(drawn.svg))


def test_what_no_prediction_knows_is_not_in_its_figure():
    known = row("a", MIB, MIB, reserved=4 * MIB)
    predicted = replace(known, memory=replace(known.memory, device_used_bytes=None), timed=(None,))
    told = set(texts(draw_scenario("f", [], [predicted]).svg))
    assert {"static", "dynamic", "peak", "allocated", "reserved"} <= told
    assert "device used" not in told


def test_an_inlined_figure_follows_the_theme_and_has_ids_of_its_own():
    drawn = draw_claim("f", Figure("points", "model", "ratio", reference=1.0), [{"model": "a", "ratio": 1.5}])
    one, other = (str(inlined(drawn.svg, name, f"says <{name}>")) for name in ("one", "other"))
    assert not re.findall(r"#[0-9a-f]{6}\b", one)
    assert "var(--series-1)" in one
    assert 'aria-label="says &lt;one&gt;"' in one
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    referred = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', one))
    assert referred == ids[0]
    # A style element would apply to the whole page.
    assert "*{" not in one


def test_each_dot_of_an_inlined_figure_is_where_it_was_and_looks_as_it_did():
    drawn = draw_scenario("f", ["step"], [row(name, MIB, MIB) for name in "abc"])
    before, after = dots(drawn.svg), dots(str(inlined(drawn.svg, "f", "says")))
    assert len(before) > 10
    assert [(f"{float(x):.2f}", f"{float(y):.2f}") for x, y, _ in before] == [
        (f"{float(x):.2f}", f"{float(y):.2f}") for x, y, _ in after
    ]
    # One style for each that there was, the page's colours in it.
    pairs = {(old, new) for (_, _, old), (_, _, new) in zip(before, after, strict=True)}
    assert len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs})
    assert all("var(--" in new and "#" not in new for _, new in pairs)


def dots(svg: str) -> list[tuple[str, str, str]]:
    """Marks in their order: x, y, and the style of their own or of the nearest group that has one."""
    found = []

    def walk(element: ET.Element, style: str) -> None:
        style = element.get("style", style)
        if element.tag.endswith("}use"):
            found.append((element.attrib["x"], element.attrib["y"], style))
        for child in element:
            walk(child, style)

    walk(ET.fromstring(svg), "")
    return found


def test_the_same_figure_is_the_same_file():
    verdict = verdicts()[0]
    assert verdict.claim.figure is not None
    first, second = (draw_claim("f", verdict.claim.figure, verdict.finding.rows) for _ in range(2))
    assert first == second
