"""Predictions for a named card: what is refused, what fits, and by how much it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from lorabench.case import Adapter, Case
from lorabench.catalog import CARDS, architecture
from lorabench.device.allocator import CachingAllocator
from lorabench.errors import DeviceError
from lorabench.runner.job import Job
from lorabench.runner.on_card import refuse_unknown
from lorabench.runner.worker import run_job

MIB = 1 << 20


def case(**settings: Any) -> Case:
    defaults = {"scenario": "s", "task": "train", "model": "llama-tiny", "sequence_length": 64}
    return Case(**{**defaults, "architecture": architecture("llama-tiny"), **settings})


class Events:
    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []

    def __call__(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)

    def phase(self, name: str, case: int) -> None: ...


def predict(device: str, **settings: Any) -> Mapping[str, Any]:
    told = Events()
    run_job(Job((case(**settings),), "single", device, 0, 100.0), told)
    [result] = [event for event in told.events if event["event"] == "result"]
    return result


@pytest.mark.parametrize(
    ("card", "settings", "words"),
    [
        ("T4", {}, "no bf16 tensor cores.*fp16"),
        ("V100-32", {"quantization": "fp16", "attention": "flash_attention_2"}, "no flash attention.*eager and sdpa"),
        ("T4", {"quantization": "nf4", "attention": "eager"}, "no bf16"),
        ("T4", {"quantization": "fp32", "autocast": True, "attention": "eager"}, "no bf16"),
        ("V100-16", {"quantization": "int8", "compute_dtype": "fp16", "attention": "eager"}, "int8.*7.5"),
    ],
)
def test_what_is_not_known_of_a_card_is_refused(card: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(DeviceError, match=words) as refused:
        refuse_unknown(CARDS[card], case(**settings))
    assert str(refused.value).startswith(card)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("card", "settings"),
    [
        ("T4", {"quantization": "fp16", "attention": "eager"}),
        ("T4", {"quantization": "nf4", "compute_dtype": "fp16"}),
        ("V100-32", {"quantization": "fp16"}),
        ("T4", {"quantization": "int8", "compute_dtype": "fp16", "attention": "eager"}),
        ("V100-16", {"quantization": "fp32", "attention": "eager"}),
        ("RTX4090", {}),
        ("B200", {"quantization": "int8"}),
    ],
)
def test_what_is_known_is_not(card: str, settings: dict[str, Any]) -> None:
    refuse_unknown(CARDS[card], case(**settings))


def test_large_heads_have_no_backward_pass_on_small_cards(tmp_path) -> None:
    (tmp_path / "config.json").write_text(
        '{"model_type": "llama", "hidden_size": 512, "num_attention_heads": 2, "num_key_value_heads": 2}'
    )
    wide = case(model=str(tmp_path))
    with pytest.raises(DeviceError, match="heads of 256"):
        refuse_unknown(CARDS["RTX4090"], wide)
    refuse_unknown(CARDS["A100-40"], wide)


def test_a_case_that_fits_says_how_much_is_left() -> None:
    result = predict("fake:L4")
    fits = result["observations"]["fits"]
    assert (result["status"], fits["gpu"], fits["fits"], fits["alloc_retries"]) == ("ok", "L4", True, 0)
    assert fits["usable_bytes"] == CARDS["L4"].cuda_bytes - 758 * MIB
    assert fits["reserved_bytes"] >= result["memory"]["peak_reserved_bytes"]
    assert fits["headroom_bytes"] == fits["usable_bytes"] - fits["reserved_bytes"]
    assert any("H100" in text for text in fits["assumptions"])
    for card in ("H100", "H200"):
        assert predict(f"fake:{card}")["observations"]["fits"]["assumptions"] == []


def test_cublas_workspaces_are_the_card_s() -> None:
    # Two of 32 MiB on an H100, two of 8 MiB and 128 KiB on an L4.
    difference = (
        predict("fake:H100")["memory"]["peak_allocated_bytes"] - predict("fake:L4")["memory"]["peak_allocated_bytes"]
    )
    assert difference == pytest.approx(2 * (32 - 8.125) * MIB, abs=4 * MIB)


def test_a_case_that_does_not_fit_ends_as_on_the_card_and_says_what_it_lacks(monkeypatch) -> None:
    monkeypatch.setattr("lorabench.catalog.cards.Card.usable_bytes", lambda card, quantization: 90 * MIB)
    needed = predict(f"fake:L4:{1 << 40}", batch_size=32)["observations"]["fits"]["reserved_bytes"]
    assert needed > 90 * MIB
    result = predict("fake:L4", batch_size=32)
    fits = result["observations"]["fits"]
    assert (result["status"], fits["fits"], fits["alloc_retries"] > 0) == ("oom", False, True)
    assert result["error"]["type"] == "OutOfDeviceMemoryError"
    assert result["error"]["phase"] in ("forward", "backward", "optimizer")
    assert result["memory"]["peak_allocated_bytes"] <= 90 * MIB
    assert (fits["reserved_bytes"], fits["headroom_bytes"]) == (needed, 90 * MIB - needed)


def test_with_a_capacity_of_its_own_the_question_is_only_whether() -> None:
    fits = predict(f"fake:H100:{60 * MIB}")["observations"]["fits"]
    assert (fits["fits"], fits["usable_bytes"], fits["headroom_bytes"]) == (False, 60 * MIB, None)


def test_loading_counts() -> None:
    # The weights alone are 7.6 MiB in bf16, and their blocks come from segments of 20 MiB.
    result = predict(f"fake:H100:{CachingAllocator().reserved_bytes + 4 * MIB}", adapter=Adapter(rank=4))
    assert (result["status"], result["error"]["phase"]) == ("oom", "load")
