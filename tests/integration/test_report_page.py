"""The report in a real browser: it asks for nothing, filters, sorts, remembers its view, and shows names as text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from browsing import CONTRAST
from playwright.sync_api import Download, Page
from report_material import verdicts

import lorabench
from lorabench.case import Adapter
from lorabench.environment import EnvironmentDevice
from lorabench.record import AlsoIn, Memory, Record, RecordDevice, RecordError, Timing
from lorabench.report.page.drawing import drawing
from lorabench.report.page.writer import write_report
from lorabench.results import read_results

NASTY = "<script>window.owned=1</script><img src=x onerror=window.owned=1>"
MIB = 2**20
DRAWN = "#charts[data-drawn]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Of the one report that all tests look at."""
    return tmp_path_factory.mktemp("report")


ATTRIBUTION = {
    "peak": {"bytes": 102 * MIB, "phase": NASTY, "operator": "aten::mm", "number": 30},
    "modules": {"model.layers.0": {"base_weights": 60 * MIB, "activations": 2 * MIB}},
    "timeline": {
        "operators": 60,
        "phases": [{"name": "forward", "from": 1}, {"name": NASTY, "from": 31}],
        "at": list(range(0, 61, 2)),
        "constant_bytes": {"base_weights": 100 * MIB},
        "varying_bytes": {"activations": [2 * MIB - abs(30 - number) * 65536 for number in range(0, 61, 2)]},
    },
}


@pytest.fixture
def results(folder, environment, make_record) -> Path:
    """Ranks on a CPU and on a GPU, one of them unstable, a case that failed, and one with a name that is markup."""
    gpu = replace(environment, id="f" * 12, device=EnvironmentDevice("cuda", "A GPU", 80 << 30))
    failed = RecordError("RuntimeError", NASTY, "forward")
    records: list[Record] = []
    for device, where in (("cpu", environment), ("cuda", gpu)):
        for rank in (2, 4, 16, 128):
            samples = tuple(rank / 1000 * factor for factor in (1.0, 1.1, 0.9))
            unstable = rank == 16 and device == "cpu"
            within = 1e-5 if rank == 128 and device == "cuda" else 0.1
            records.append(
                make_record(
                    case={"adapter": Adapter(rank=rank), "axes": (("adapter.rank", rank),)},
                    environment=where.id,
                    device=RecordDevice(device, where.device.name),  # type: ignore[arg-type]
                    memory=Memory(
                        100 * MIB,
                        rank * MIB,
                        (100 + rank) * MIB,
                        512 * MIB if device == "cuda" else None,
                        900 * MIB if device == "cuda" else None,
                    ),
                    latency={
                        "step": Timing(
                            samples,
                            rank / 1000,
                            (rank / 1000 * (1 - within), rank / 1000 * (1 + within)),
                            unstable,
                            "drift: +9.0%",
                        )
                    },
                )
            )
    broken = make_record(case={"quantization": "int8"}, status="failed", error=failed, memory=None, latency={})
    for index in (0, 4):  # the same case on both devices
        records[index] = replace(records[index], observations={"attribution": ATTRIBUTION})
    odd = make_record(case={"scenario": NASTY, "axes": (("adapter.rank", NASTY),), "batch_size": 3})
    path = folder / "results.jsonl"
    lines = [environment, gpu, *records, broken, odd]
    path.write_text("".join(json.dumps(line.to_dict()) + "\n" for line in lines))
    return path


@pytest.fixture
def url(folder, results) -> str:
    page = folder / "reports" / "index.html"
    if not page.exists():
        found = read_results(results)
        keys = tuple(dict.fromkeys(record.key for record in found.records[:3]))
        with drawing() as figures:
            write_report([found], lambda _: verdicts(keys, NASTY), page.parent, figures)
    return page.as_uri()


SAME_ROW_AS_BEFORE = """() => {
  const row = document.querySelector(".tabulator-row"), before = window.rowBefore;
  window.rowBefore = row;
  return row === before;
}"""


@pytest.fixture
def visit(browser, url) -> Iterator[Callable[..., Page]]:
    """Opens the page; when the test is over, there must have been no error and no request."""
    trouble: list[str] = []
    contexts = []

    def visit(fragment: str = "", width: int = 1440, scheme: str = "light") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on("request", lambda request: trouble.append(request.url) if _is_foreign(request.url) else None)
        page.goto(url + fragment)
        page.wait_for_selector(".tabulator-row")
        # The table draws its rows again when the page around it has found its size: a click on one that goes is lost.
        page.wait_for_function(SAME_ROW_AS_BEFORE, polling=400)
        return page

    def _is_foreign(address: str) -> bool:
        return not (address.startswith(("data:", "blob:")) or address.partition("#")[0] == url)

    yield visit
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("window.owned") is None
        context.close()
    assert trouble == []


def column(page: Page, field: str) -> list[str]:
    return page.locator(f".tabulator-row .tabulator-cell[tabulator-field='{field}']").all_inner_texts()


def choose(page: Page, name: str, value: str) -> None:
    page.locator(f"#filters [name='{name}']").select_option(value)


def wait_for_cases(page: Page, expected: list[str]) -> None:
    """Until the first column has these rows: each case's axes, and what is below."""
    page.wait_for_function(
        """expected => {
          const text = (one) => [...one.querySelectorAll(":scope > span")].map((span) => span.textContent).join(" ");
          return [...document.querySelectorAll(".tabulator-row button")].map(text).join() === expected.join();
        }""",
        arg=expected,
    )


def wait_for_address(page: Page, fragment: str) -> None:
    page.wait_for_function("fragment => location.hash.includes(fragment)", arg=fragment)


def sort_by(page: Page, field: str) -> None:
    page.locator(f".tabulator-col[tabulator-field='{field}']").click()


def test_all_of_the_page_is_there(visit):
    page = visit()
    assert page.locator(".card").count() == 6
    assert page.locator(".chapter li").count() == 6
    assert page.locator("#count").inner_text() == "10 records"
    page.locator("#charts").scroll_into_view_if_needed()
    page.wait_for_selector(DRAWN)


def test_filters_beside_each_other_stand_on_one_line(visit):
    page = visit()
    boxes = [box.bounding_box() for box in page.locator("#filters input, #filters select").all()]
    assert len(boxes) > 4
    for before, box in pairwise(boxes):
        assert box["y"] == before["y"] or box["y"] > before["y"] + before["height"]


def test_filters_narrow_the_table_and_stand_in_the_address(visit):
    page = visit()
    choose(page, "device", "A GPU")
    assert page.locator("#count").inner_text() == "4 of 10 records"
    assert set(column(page, "device")) == {"A GPU"}
    page.fill("#filters [name='q']", "rank=16")
    assert page.locator("#count").inner_text() == "1 of 10 records"
    wait_for_address(page, "cases?device=A+GPU&q=rank%3D16")
    page.click("#clear")
    assert page.locator("#count").inner_text() == "10 records"
    assert page.locator("#filters [name='q']").input_value() == ""


def test_no_fit_is_said(visit):
    page = visit()
    page.fill("#filters [name='q']", "nothing of the kind")
    assert page.locator("#count").inner_text() == "0 of 10 records"
    assert page.get_by_text("No case fits these filters.").is_visible()


def test_sorting_goes_by_numbers_with_missing_ones_last(visit):
    page = visit("#cases?device=Imaginary+CPU")
    sort_by(page, "memory_dynamic_bytes")
    assert [float(text) for text in column(page, "memory_dynamic_bytes")[:-1]] == [2.0, 4.0, 16.0, 50.0, 128.0]
    assert column(page, "memory_dynamic_bytes")[-1] == "–"  # noqa: RUF001
    sort_by(page, "memory_dynamic_bytes")
    assert [float(text) for text in column(page, "memory_dynamic_bytes")[:-1]] == [128.0, 50.0, 16.0, 4.0, 2.0]
    assert column(page, "memory_dynamic_bytes")[-1] == "–"  # noqa: RUF001
    wait_for_address(page, "sort=memory_dynamic_bytes%3Adesc")


def test_the_address_restores_the_view(visit):
    page = visit("#cases?device=A+GPU&sort=memory_dynamic_bytes:desc&columns=memory_dynamic_bytes,adapter_rank")
    assert page.locator("#filters [name='device']").input_value() == "A GPU"
    assert column(page, "adapter_rank") == ["128", "16", "4", "2"]
    headers = page.locator(".tabulator-col").evaluate_all(
        "found => found.map(one => one.getAttribute('tabulator-field'))"
    )
    assert headers == ["name", "memory_dynamic_bytes", "adapter_rank"]
    again = visit(page.evaluate("location.hash"))
    assert column(again, "adapter_rank") == column(page, "adapter_rank")


def test_columns_can_be_chosen(visit):
    page = visit()
    page.click("#columns summary")
    page.locator("#columns label", has_text=re.compile(r"^rank$")).click()
    wait_for_address(page, "adapter_rank")
    assert "16" in column(page, "adapter_rank")


def test_times_have_their_interval_and_say_when_they_are_unstable(visit):
    page = visit("#cases?sort=step_median_s:asc&device=Imaginary+CPU")
    assert column(page, "step_median_s")[:4] == ["2.00 ±0.20", "4.00 ±0.40", "11.00 ±0.80", "~16.00 ±1.60"]
    page = visit("#cases?sort=step_median_s:desc&device=A+GPU")
    assert column(page, "step_median_s")[0] == "128.00 ±<0.01"


def test_a_record_opens_whole_and_closes(visit, results):
    page = visit()
    # Enter on the button is a click on the row, whatever the pointer is over.
    page.locator(".tabulator-row button", has_text="adapter.rank=128").first.press("Enter")
    dialog = page.locator("dialog[open]")
    dialog.wait_for()
    record = next(one for one in read_results(results).records if one.case["axes"][0][1] == 128)
    text = dialog.inner_text()
    assert record.key in text
    assert "228 MiB" in text
    assert f"{228 * MIB:,} B" in text
    assert results.name in text
    assert "Imaginary Linux" in dialog.evaluate("one => one.textContent")
    wait_for_address(page, f"record={record.key}")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")
    # The event of a dialog that was closed comes after that.
    page.wait_for_function("() => !location.hash.includes('record=')")


def test_a_records_memory_through_a_step_can_be_zoomed_into(visit, results):
    first = read_results(results).records[0]
    page = visit(f"#cases?record={first.key}")
    page.wait_for_selector("dialog[open]")
    chart = page.locator("dialog .timeline.js-plotly-plot")
    chart.wait_for()
    drawn = "chart => chart.data.map((one) => [one.name, Math.max(...one.y)])"
    assert chart.evaluate(drawn) == [["base weights", 100], ["activations", 2], ["peak", 102]]
    assert chart.locator(".annotation-text").all_text_contents() == ["forward", NASTY]
    plane = chart.locator(".nsewdrag").bounding_box()
    assert plane is not None
    middle = plane["y"] + plane["height"] / 2
    page.mouse.move(plane["x"] + plane["width"] * 0.25, middle)
    page.mouse.down()
    page.mouse.move(plane["x"] + plane["width"] * 0.5, middle, steps=5)
    page.mouse.up()
    page.wait_for_function("() => document.querySelector('.timeline').layout.xaxis.range[0] > 10")
    low, high = chart.evaluate("chart => chart.layout.xaxis.range")
    assert (low, high) == pytest.approx((15, 30), abs=3)
    # What is drawn is not listed once more, and what is not drawn is.
    text = page.locator("dialog").evaluate("one => one.textContent")
    assert "varying bytes" not in text
    assert "model.layers.0" in text
    assert page.locator("dialog[open]").count() == 1


def test_an_address_opens_a_record(visit, results):
    failed = next(one for one in read_results(results).records if one.status == "failed")
    page = visit(f"#cases?record={failed.key}")
    page.wait_for_selector("dialog[open]")
    assert f"failed in forward: RuntimeError: {NASTY}" in page.locator("dialog .alert").inner_text()


def test_the_keyboard_reaches_order_and_records(visit):
    page = visit()
    page.locator(".tabulator-col[tabulator-field='memory_dynamic_bytes']").focus()
    page.keyboard.press("Enter")
    wait_for_address(page, "sort=memory_dynamic_bytes%3Aasc")
    page.locator(".tabulator-row button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    assert page.evaluate("document.activeElement.closest('dialog') !== null")


def test_evidence_leads_to_its_records(visit, results):
    page = visit()
    card = page.locator("#claim-rank-sets-width")
    card.get_by_text("Evidence").click()
    card.get_by_text("Show all in the explorer").click()
    # Three keys, each on both devices.
    page.wait_for_function("() => document.getElementById('count').textContent.startsWith('6 of 10')")
    assert page.locator("#count").inner_text() == "6 of 10 records: evidence of rank-sets-width"
    key = read_results(results).records[0].key
    page.evaluate(f"location.hash = '#cases?q={key}'")
    page.wait_for_function("() => document.getElementById('count').textContent.startsWith('2 of 10')")


def test_names_from_files_are_text_everywhere(visit):
    page = visit("#charts?chart=" + "none")
    page.locator("#charts").scroll_into_view_if_needed()
    page.wait_for_selector(DRAWN)
    options = page.locator("#chart-scenario option").all_inner_texts()
    nasty = next(index for index, text in enumerate(options) if NASTY in text)
    page.locator("#chart-scenario").select_option(index=nasty)
    page.wait_for_function("Number(document.getElementById('charts').dataset.drawn) > 1")
    assert "<script>" in page.locator("#chart-memory").evaluate("one => one.textContent")
    assert NASTY in page.locator("#machine").inner_text()
    assert NASTY in page.locator("#table").evaluate("one => one.textContent")


def test_charts_show_every_sample_and_follow_scenario_and_phase(visit):
    page = visit()
    page.locator("#charts").scroll_into_view_if_needed()
    page.wait_for_selector(DRAWN)
    options = page.locator("#chart-scenario option").all_inner_texts()
    assert "ranks on A GPU: 4 cases" in options
    page.locator("#chart-scenario").select_option("ranks on A GPU")
    page.wait_for_function("() => document.getElementById('chart-time').data?.[0].x.length === 12")
    memory = page.evaluate("document.getElementById('chart-memory').data.map(one => [one.name, one.x])")
    assert memory == [
        ["static", [100] * 4],
        ["dynamic", [2, 4, 16, 128]],
        ["peak", [102, 104, 116, 228]],
    ]
    used = page.evaluate("document.getElementById('chart-allocator').data.map(one => [one.name, one.x[0]])")
    assert used == [["allocated", 102], ["reserved", 512], ["device used", 900]]
    wait_for_address(page, "chart=ranks+on+A+GPU")


def test_a_cpus_missing_allocator_is_explained(visit):
    page = visit("#charts?chart=ranks+on+Imaginary+CPU")
    page.wait_for_selector(DRAWN)
    assert "a CPU has no caching allocator" in page.locator("#chart-allocator").inner_text()


def saved(page: Page, kind: str) -> str:
    page.click("#download summary")
    with page.expect_download() as started:
        page.click(f"[data-download='{kind}']")
    download: Download = started.value
    return Path(download.path()).read_text(encoding="utf-8")


def test_what_is_shown_can_be_saved_and_read_again(visit, tmp_path):
    page = visit("#cases?device=A+GPU")
    (tmp_path / "saved.jsonl").write_text(saved(page, "jsonl"), encoding="utf-8")
    table = lorabench.load(tmp_path / "saved.jsonl")
    assert sorted(table["adapter_rank"]) == [2, 4, 16, 128]
    assert set(table["device_name"]) == {"A GPU"}


def test_a_saved_table_has_the_rows_shown(visit):
    page = visit("#cases?device=A+GPU&sort=memory_dynamic_bytes:desc")
    header, *lines = saved(page, "csv").splitlines()
    names = header.split(",")
    assert [line.split(",")[names.index("memory_dynamic_bytes")] for line in lines] == [
        str(rank * MIB) for rank in (128, 16, 4, 2)
    ]


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_text_can_be_read(visit, width, scheme):
    page = visit(width=width, scheme=scheme)
    page.locator("#charts").scroll_into_view_if_needed()
    page.wait_for_selector(DRAWN)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", paper)[:3])) < 60) == (scheme == "dark")
    worst = page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst


def test_the_theme_can_be_switched(visit):
    page = visit(scheme="light")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    after = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert before != after
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == before


def test_print_has_figures_and_no_controls(visit):
    page = visit(scheme="dark")
    page.emulate_media(media="print")
    assert page.locator(".panel svg").first.is_visible()
    assert not page.locator("#filters").is_visible()
    assert not page.locator(".top").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.card h3')).color") == "rgb(28, 33, 38)"
    assert len(page.pdf(format="A4")) > 10_000


def test_repeats_are_numbered_and_invalid_cases_have_no_chart(browser, tmp_path, environment, make_record):
    bad = make_record(case={"batch_size": 9}, status="invalid", error=RecordError("Invalid", "not in 8 bit"))
    lines = [environment, make_record(), make_record(repeat=1), bad]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line.to_dict()) + "\n" for line in lines))
    with drawing() as figures:
        write_report([read_results(tmp_path / "r.jsonl")], lambda _: [], tmp_path, figures)
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    page.locator("#charts").scroll_into_view_if_needed()
    page.wait_for_selector(DRAWN)
    names = page.locator(".tabulator-row button > span:first-child").all_inner_texts()
    assert sorted(names) == ["adapter.rank=4 #1", "adapter.rank=4 #1", "adapter.rank=4 #2"]
    assert page.locator("#chart-scenario option").all_inner_texts() == ["ranks: 2 cases"]
    page.close()


def test_what_tells_predictions_apart_is_not_cut(browser, tmp_path, environment, make_record):
    card = "NVIDIA H100 80GB HBM3"
    fake = replace(environment, id="f" * 12, device=EnvironmentDevice("fake", card, 80 << 30))
    real = make_record(device=RecordDevice("cuda", card))
    told = replace(real, source="predicted", environment=fake.id, device=RecordDevice("fake", card))
    lines = [environment, fake, real, told]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line.to_dict()) + "\n" for line in lines))
    with drawing() as figures:
        write_report([read_results(tmp_path / "r.jsonl")], lambda _: [], tmp_path, figures)
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.goto((tmp_path / "index.html").as_uri())
    page.locator("#charts").scroll_into_view_if_needed()
    page.wait_for_selector(DRAWN)
    for cell in page.locator(".tabulator-cell[tabulator-field='device']").all():
        assert cell.evaluate("one => one.scrollWidth <= one.clientWidth"), cell.inner_text()
    choice = page.locator("#chart-scenario")
    assert f"ranks on {card} (predicted): 1 case" in choice.locator("option").all_inner_texts()
    shown, needed = choice.evaluate("one => [one.offsetWidth, (one.style.maxWidth = 'none', one.offsetWidth)]")
    assert shown == needed
    page.close()


def test_a_case_that_scenarios_share_is_found_in_each(browser, tmp_path, environment, make_record):
    other = AlsoIn("ranks", "ranks[adapter.rank=8]", (("adapter.rank", 8),))
    shared = make_record(
        {"scenario": "lengths", "adapter": Adapter(), "axes": (("sequence_length", 512),)}, also=(other,)
    )
    ranks = [make_record({"adapter": Adapter(rank=rank), "axes": (("adapter.rank", rank),)}) for rank in (4, 16)]
    lines = [environment, shared, *ranks]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line.to_dict()) + "\n" for line in lines))
    with drawing() as figures:
        write_report([read_results(tmp_path / "r.jsonl")], lambda _: [], tmp_path, figures)
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    page.wait_for_selector(".tabulator-row")
    assert page.locator("#filters [name='scenario'] option").all_inner_texts() == ["all", "lengths (1)", "ranks (3)"]
    choose(page, "scenario", "ranks")
    assert page.locator("#count").inner_text() == "3 records"
    # Under the name and in the place that it has there.
    wait_for_cases(page, ["adapter.rank=4 ranks", "adapter.rank=8 ranks, also lengths", "adapter.rank=16 ranks"])
    sort_by(page, "name")
    assert page.locator(".tabulator-row button > span:first-child").all_inner_texts()[1] == "adapter.rank=8"
    page.locator(".tabulator-row button", has_text="adapter.rank=8").click()
    dialog = page.locator("dialog[open]")
    assert dialog.locator("h2").inner_text() == "ranks[adapter.rank=8]"
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")
    choose(page, "scenario", "lengths")
    assert page.locator("#count").inner_text() == "1 of 3 records"
    wait_for_cases(page, ["sequence_length=512 lengths, also ranks"])
    page.fill("#filters [name='q']", "adapter.rank=8")
    assert page.locator("#count").inner_text() == "1 of 3 records"
    choose(page, "scenario", "")
    wait_for_cases(page, ["sequence_length=512 lengths, also ranks"])
    page.locator("#charts").scroll_into_view_if_needed()
    page.wait_for_selector(DRAWN)
    assert page.locator("#chart-scenario option").all_inner_texts() == ["lengths: 1 case", "ranks: 3 cases"]
    page.locator("#chart-scenario").select_option("ranks")
    page.wait_for_function("() => document.getElementById('chart-memory').layout.yaxis.ticktext?.length === 3")
    labels = page.evaluate("document.getElementById('chart-memory').layout.yaxis.ticktext")
    assert [label.strip() for label in labels] == ["4", "8", "16"]
    page.locator(".tabulator-row button").click()
    assert "ranks[adapter.rank=8]" in page.locator("#record").inner_text()
    page.close()
