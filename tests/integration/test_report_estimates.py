"""The report's sections on predictions in a real browser: what people use instead, and claims by predicted bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browsing import CONTRAST
from playwright.sync_api import Page

from lorabench.analysis.claims import judge
from lorabench.case import Adapter
from lorabench.environment import EnvironmentDevice
from lorabench.record import Memory, Proof, RecordDevice
from lorabench.report.page.drawing import drawing
from lorabench.report.page.writer import write_report
from lorabench.results import read_results

CARD = "NVIDIA H100 80GB HBM3"
MIB = 2**20
REASON = "<b>RuntimeError</b>: no such operator"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("estimates")


@pytest.fixture
def url(folder, environment, make_record) -> str:
    """Four batch sizes measured and predicted, of which MemTracker fails at one."""
    page = folder / "reports" / "index.html"
    if page.exists():
        return page.as_uri()
    gpu = replace(environment, id="f" * 12, device=EnvironmentDevice("cuda", CARD, 80 << 30))
    fake = replace(environment, id="e" * 12, device=EnvironmentDevice("fake", CARD, 80 << 30))
    lines = [gpu, fake]
    for model, static, parameters in (("llama-3.2-1b", 200, 10**9), ("llama-3-8b", 900, 8 * 10**9)):
        for size in (1, 2, 4, 8):
            dynamic = size * static * MIB // 10
            measured = make_record(
                case={"batch_size": size, "model": model, "adapter": Adapter(), "axes": (("batch_size", size),)},
                environment=gpu.id,
                device=RecordDevice("cuda", CARD),
                proof=Proof(trainable_parameters=4096, total_parameters=parameters, adapter_modules=8),
                memory=Memory(static * MIB, dynamic, static * MIB + dynamic),
            )
            told = {"peak_bytes": size * 50 * MIB}
            estimates = dict.fromkeys(("accelerate_weights", "accelerate_training", "arithmetic"), told)
            estimates["memory_tracker"] = told if size > 1 else {"absent": REASON}  # type: ignore[dict-item]
            predicted = replace(
                measured,
                environment=fake.id,
                source="predicted",
                device=RecordDevice("fake", CARD),
                latency={},
                observations={"estimates": estimates},
            )
            lines += [measured, predicted]
    path = folder / "results.jsonl"
    path.write_text("".join(json.dumps(line.to_dict()) + "\n" for line in lines))
    with drawing() as figures:
        write_report([read_results(path)], judge, page.parent, figures)
    return page.as_uri()


@pytest.fixture
def visit(browser, url) -> Iterator[object]:
    contexts = []

    def visit(width: int = 1300, scheme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector(".tabulator-row")
        return page

    yield visit
    for context in contexts:
        context.close()


def test_each_method_has_its_error_its_words_and_its_reasons(visit):
    section = visit().locator("#estimates")
    summary = section.locator("table").first.inner_text()
    assert all(name in summary for name in ("lorabench", "accelerate, weights", "MemTracker", "arithmetic"))
    assert section.locator("dl.left-out dt").count() == 5
    assert f"No estimate in 2 cases: {REASON}." in section.locator("dl.left-out").inner_text()
    assert section.locator("figure svg").is_visible()
    section.get_by_text("Every case", exact=True).click()
    rows = section.locator("details tbody tr")
    assert rows.count() == 8
    assert rows.first.is_visible()


def test_a_card_and_a_table_say_that_predicted_bytes_agree(visit):
    page = visit()
    card = page.locator("#claim-dynamic-follows-batch")
    assert "Predicted agrees." in card.inner_text()
    assert "the 8 cases that were predicted too" in card.inner_text()
    # That claim has nothing to do with bytes.
    assert "Predicted agrees." not in page.locator("#claim-starts-as-identity").inner_text()
    table = page.locator("#predicted table").last.inner_text()
    assert "agrees" in table


@pytest.mark.parametrize("width", [390, 1300])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_text_can_be_read(visit, width, scheme):
    page = visit(width, scheme)
    page.get_by_text("Every case", exact=True).click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    worst = page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst
