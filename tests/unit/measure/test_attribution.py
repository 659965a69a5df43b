"""What storages turn out to be, on models small enough to count by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import bitsandbytes
import peft
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lorabench.device.storages import StorageMode
from lorabench.measure.attribution.attribution import attribute
from lorabench.measure.attribution.blocks import PlainBlocks
from lorabench.measure.attribution.categories import (
    ACTIVATIONS,
    ADAPTER_WEIGHTS,
    BASE_WEIGHTS,
    GRADIENTS,
    INPUTS,
    LOGITS_AND_LOSS,
    OPTIMIZER_STATE,
    QUANTIZATION_STATE,
    TEMPORARIES,
)
from lorabench.measure.attribution.held import HeldBlock
from lorabench.measure.attribution.holders import held_by_model
from lorabench.measure.attribution.lives import Ledger, Life, Moment, Owner
from lorabench.measure.attribution.observe import Followed, Subject, follow
from lorabench.measure.attribution.summary import Peak, layer_of, timeline
from lorabench.measure.phases import Phases, UnobservedPhases
from lorabench.record import Memory

FLOAT = 4
ROWS, WIDTH, VOCABULARY = 8, 16, 50
SILENT = UnobservedPhases(lambda phase: None)


@pytest.fixture(autouse=True)
def _own_code_books(monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes keeps some for a whole process, and a case has a process to itself."""
    monkeypatch.setattr(bitsandbytes.functional, "name2qmap", {})


class KeepsOnContext(torch.autograd.Function):
    """As bitsandbytes' MatMul8bitLt does: the input is kept where hooks on saved tensors do not see it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.kept = x * 2
        return x + 1

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * ctx.kept


class Layer(nn.Module):
    def __init__(self, keeps: bool) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, WIDTH, bias=False)
        self.keeps = keeps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.exp(self.up(x)) * 0.01
        return KeepsOnContext.apply(hidden) if self.keeps else hidden


class Body(nn.Module):
    def __init__(self, checkpointing: str, keeps: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(keeps) for _ in range(2))
        self.checkpointing = checkpointing

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            if self.checkpointing == "none":
                x = layer(x)
            else:
                x = checkpoint(layer, x, use_reentrant=self.checkpointing == "reentrant", preserve_rng_state=False)
        return x


class Output(dict[str, Any]):
    __getattr__ = dict.get


class Model(nn.Module):
    """Built like one of transformers': a body under ``base_model_prefix``, a head, and the loss in the model."""

    base_model_prefix = "body"

    def __init__(self, checkpointing: str = "none", keeps: bool = False) -> None:
        super().__init__()
        self.embed = nn.Parameter(torch.ones(ROWS, WIDTH))
        self.body = Body(checkpointing, keeps)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, x: torch.Tensor) -> Output:
        logits = self.head(self.body(x * self.embed))
        return Output(logits=logits, loss=(logits.float() * 1.5).pow(2).mean())


class Trial:
    """A model with its optimizer, two steps old, on the CPU."""

    def __init__(self, **settings: Any) -> None:
        self.model = Model(**settings)
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.inputs = torch.ones(ROWS, WIDTH)
        self.subject = Subject(self.step, self.model, self.optimizer, [self.inputs])
        for _ in range(2):
            self.step(SILENT)

    def step(self, phases: Phases) -> None:
        with phases("forward"):
            out = self.model(self.inputs)
            loss = out.loss
        with phases("backward"):
            loss.backward()
            del out, loss
        with phases("optimizer"):
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def follow(self) -> Followed:
        return follow(self.subject, PlainBlocks(), lambda phase: None)


def parameters(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters()) * FLOAT


def at_end_of(phase: str, ledger: Ledger) -> Peak:
    return Peak(ledger, [moment for moment in ledger.moments if moment.phase == phase][-1], 0)


class Events:
    """A sink that writes bytes down."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self._sizes: dict[int, int] = {}

    def on_alloc(self, nbytes: int, storage_id: int) -> None:
        self._sizes[storage_id] = nbytes
        self.seen.append(nbytes)

    def on_free(self, storage_id: int) -> None:
        self.seen.append(-self._sizes.pop(storage_id))


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("checkpointing", ["none", "reentrant", "non-reentrant"])
def test_a_followed_step_takes_and_frees_what_one_unfollowed_does(checkpointing: str, keeps: bool) -> None:
    trial = Trial(checkpointing=checkpointing, keeps=keeps)

    def events(run: Callable[[], Any]) -> list[int]:
        sink = Events()
        with StorageMode(sink):
            run()
        return sink.seen

    bare = events(lambda: trial.step(SILENT))
    assert events(lambda: trial.follow()) == bare
    assert len(bare) > 60


def test_a_step_without_checkpointing_by_formula() -> None:
    trial = Trial()
    found = at_end_of("forward", trial.follow().ledger).categories
    hidden, logits = ROWS * WIDTH * FLOAT, ROWS * VOCABULARY * FLOAT
    assert found == {
        BASE_WEIGHTS: parameters(trial.model),
        # exp_avg and exp_avg_sq, and a step counter for each parameter.
        OPTIMIZER_STATE: 2 * parameters(trial.model) + 4 * FLOAT,
        INPUTS: hidden,
        # The input of each product, and each exp's result; the second layer's result is the head's input.
        ACTIVATIONS: (1 + 2 * 2) * hidden,
        # The logits, 1.5 times them, which pow saves, their square, which is read right now, and the loss.
        LOGITS_AND_LOSS: 3 * logits + FLOAT,
    }
    found = at_end_of("backward", trial.follow().ledger).categories
    assert found[GRADIENTS] == parameters(trial.model)
    assert ACTIVATIONS not in found


@pytest.mark.parametrize("checkpointing", ["reentrant", "non-reentrant"])
def test_checkpointing_leaves_the_inputs_of_layers_and_recomputes_the_rest(checkpointing: str) -> None:
    ledger = Trial(checkpointing=checkpointing).follow().ledger
    hidden = ROWS * WIDTH * FLOAT
    # Two layers' inputs and the head's.
    assert at_end_of("forward", ledger).categories[ACTIVATIONS] == 3 * hidden
    recomputed = [life for life in ledger.lives if life.phase == "backward" and life.final_category == ACTIVATIONS]
    # exp's result of each layer is saved again; reentrant makes the layer's output, too.
    assert {life.operator for life in recomputed} >= {"aten::exp"}
    assert {life.owner.module for life in recomputed} <= {"body.layers.0", "body.layers.1"}
    assert len([life for life in recomputed if life.operator == "aten::exp"]) == 2


def test_what_a_function_keeps_on_its_context_is_named_and_told_from_what_autograd_saves() -> None:
    ledger = Trial(checkpointing="non-reentrant", keeps=True).follow().ledger
    peak = at_end_of("forward", ledger)
    kept = [one for one in peak.tensors() if one["category"] == ACTIVATIONS and not one["is_saved"]]
    assert kept == [
        {
            "category": ACTIVATIONS,
            "module": "body.layers.*",
            "operator": "aten::mul",
            "shape": [ROWS, WIDTH],
            "dtype": "float32",
            "is_saved": False,
            "count": 2,
            "bytes": 2 * ROWS * WIDTH * FLOAT,
        }
    ]


def test_reentrant_checkpointing_keeps_no_context() -> None:
    ledger = Trial(checkpointing="reentrant", keeps=True).follow().ledger
    assert all(one["is_saved"] for one in at_end_of("forward", ledger).tensors() if one["category"] == ACTIVATIONS)


def test_gradients_belong_to_the_module_whose_nodes_make_them() -> None:
    ledger = Trial().follow().ledger
    backward = [life for life in ledger.lives if life.phase == "backward"]
    by_module = {life.owner.module: life.nbytes for life in backward if life.final_category == GRADIENTS}
    square = WIDTH * WIDTH * FLOAT
    assert by_module == {
        "head": WIDTH * VOCABULARY * FLOAT,
        "body.layers.0.up": square,
        "body.layers.1.up": square,
        "": ROWS * WIDTH * FLOAT,
    }
    exps = [life.owner.module for life in backward if life.operator == "aten::mul" and life.owner.module]
    assert {"body.layers.0", "body.layers.1"} <= set(exps)


def test_in_the_backward_pass_the_loss_ends_at_the_heads_product() -> None:
    ledger = Trial().follow().ledger
    backward = [life for life in ledger.lives if life.phase == "backward"]
    logits = [life for life in backward if life.shape == (ROWS, VOCABULARY)]
    assert logits
    assert {life.final_category for life in logits} == {LOGITS_AND_LOSS}
    of_head = [life for life in backward if life.owner.module == "head" and life.shape == (ROWS, WIDTH)]
    assert [life.final_category for life in of_head] == [TEMPORARIES]


def test_categories_add_up_to_the_peak_and_say_what_is_missing() -> None:
    trial = Trial()
    peak_bytes = trial.follow().ledger.peak().peak_bytes
    found = attribute(trial.subject, PlainBlocks(), Memory(peak_allocated_bytes=peak_bytes + 7), lambda phase: None)
    assert found.unattributed_bytes == 7
    assert sum(found.categories.values()) == peak_bytes == found.details["peak"]["bytes"]
    assert sum(sum(amounts.values()) for amounts in found.details["modules"].values()) == peak_bytes
    assert "beyond_peak" not in found.details


class ListedBlocks(PlainBlocks):
    """Blocks that can be listed: those of the CPU's storages, by their addresses."""

    can_capture = True

    def __init__(self) -> None:
        self.captures = 0
        self.readings = 0

    def address(self, storage: torch.UntypedStorage) -> int:
        return storage.data_ptr()

    def before_operator(self) -> None:
        self.readings += 1

    def begin_capture(self) -> None:
        self.captures += 1

    def end_capture(self) -> list[HeldBlock]:
        return []


class Decoding:
    """A prefill of ``prompt`` floats, and three tokens, or one, each of which adds ``token`` floats to a cache."""

    def __init__(self, prompt: int, token: int) -> None:
        self.prompt, self.token, self.tokens = prompt, token, 3
        self.steps: list[int] = []
        self.subject = Subject(self.step, nn.Linear(1, 1), None, [], self.shortened)

    def step(self, phases: Phases) -> None:
        with phases("prefill"):
            torch.empty(self.prompt)
        cache = []
        with phases("decode"):
            for _ in range(self.tokens):
                cache.append(torch.empty(self.token))
        self.steps.append(len(cache))

    @contextmanager
    def shortened(self) -> Iterator[None]:
        self.tokens = 1
        yield
        self.tokens = 3


@pytest.mark.parametrize(("prompt", "token", "steps"), [(1000, 10, [3, 1]), (10, 1000, [3, 3])])
def test_what_follows_a_peak_in_the_prefill_is_followed_once(prompt: int, token: int, steps: list[int]) -> None:
    decoding, blocks = Decoding(prompt, token), ListedBlocks()
    found = attribute(decoding.subject, blocks, Memory(), lambda phase: None)
    assert decoding.steps == steps
    assert blocks.captures == 1
    peak = found.details["peak"]
    assert peak["bytes"] == FLOAT * (2 + max(prompt, 3 * token))
    assert peak["phase"] == ("prefill" if prompt > token else "decode")
    # The timeline is the whole step's: the last of the three tokens is on it.
    assert found.details["timeline"]["operators"] == 4


class Allocating:
    """Each step takes floats, one operator for each of its numbers, and keeps none of them."""

    def __init__(self, *steps: list[int], repeats: bool = True) -> None:
        self.steps = list(steps)
        self.subject = Subject(self.step, nn.Linear(1, 1), None, [], repeats=repeats)

    def step(self, phases: Phases) -> None:
        with phases("forward"):
            for floats in self.steps.pop(0):
                torch.empty(floats)


@pytest.mark.parametrize(
    ("repeats", "steps", "readings", "captures", "peak"),
    [
        # The start, three operators, and the one at the peak once more.
        pytest.param(True, [[1, 9, 2]] * 2, 4 + 1, 1, (2, 9), id="as before"),
        pytest.param(True, [[1, 9, 2], [1, 8, 2], [1, 8, 2]], 4 + 1 + 4, 2, (2, 8), id="less than before"),
        pytest.param(True, [[1, 9, 2], *[[7, 1, 2]] * 3], 4 + 1 + 4 + 4, 3, (1, 7), id="moved"),
        pytest.param(True, [[1, 2, 9], [1, 2], [5, 2], [5, 2]], 4 + 0 + 3 + 3, 1, (1, 5), id="fewer operators"),
        pytest.param(True, [[1, 9, 2], [1, 2, 9], [9, 1, 2], [1, 9, 2]], 4 + 1 + 4 + 4, 3, (1, 1), id="never the same"),
        pytest.param(False, [[1, 9, 2]] * 2, 4 + 4, 1, (2, 9), id="may differ"),
        pytest.param(False, [[1, 9, 2], *[[7, 1, 2]] * 2], 4 + 4 + 4, 2, (1, 7), id="differs"),
    ],
)
def test_blocks_are_listed_at_the_peak_of_the_step_that_they_are_of(
    repeats: bool, steps: list[list[int]], readings: int, captures: int, peak: tuple[int, int]
) -> None:
    allocating, blocks = Allocating(*steps, repeats=repeats), ListedBlocks()
    found = attribute(allocating.subject, blocks, Memory(), lambda phase: None)
    assert allocating.steps == []
    assert (blocks.readings, blocks.captures) == (readings, captures)
    number, floats = peak
    parameters = 2
    assert found.details["peak"]["number"] == number
    assert found.details["peak"]["bytes"] == FLOAT * (parameters + floats)


def test_an_operator_that_only_makes_views_is_no_moment() -> None:
    def step(phases: Phases) -> None:
        with phases("forward"), torch.inference_mode():
            square = torch.empty(3, 3)
            square.t()[1:].unsqueeze(0)
            # One operator in inference mode, which copies.
            square.t().contiguous()
            square.to(torch.float16)

    ledger = follow(Subject(step, nn.Linear(1, 1), None, []), PlainBlocks(), lambda phase: None).ledger
    assert [(moment.number, moment.operator) for moment in ledger.moments] == [
        (0, "held before"),
        (1, "aten::empty"),
        (6, "aten::contiguous"),
        (7, "aten::to"),
    ]
    assert ledger.peak().peak_bytes == FLOAT * (2 + 9 + 9)


def test_beyond_pytorch_is_what_the_driver_sees_on_top_of_what_is_reserved() -> None:
    memory = Memory(peak_allocated_bytes=100, peak_reserved_bytes=150, device_used_bytes=650)
    found = attribute(Trial().subject, PlainBlocks(), memory, lambda phase: None)
    assert found.details["beyond_peak"] == {"cached_bytes": 50, "context_and_rest_bytes": 500}


def test_layers_without_peft_wrappers() -> None:
    assert layer_of("base_model.model.model.layers.3.self_attn.q_proj.lora_A.default") == "model.layers.3"
    assert layer_of("base_model.model.lm_head.base_layer") == "lm_head"
    assert layer_of("base_model.model.score.modules_to_save.default") == "score.modules_to_save.default"
    assert layer_of("base_model.model") == ""
    assert layer_of("transformer.h.11.mlp") == "transformer.h.11"


def hand_made(moments: int) -> Ledger:
    """One weight throughout, and a temporary that lives through every third operator's end; a peak in the middle."""
    ledger = Ledger()
    weight = Life(1000, 1024, 0, 0, "", Owner("w"), "held before", (250,), "float32", category=BASE_WEIGHTS)
    ledger.add(0, weight)
    ledger.moments.append(Moment(0, 0, "held before", "", 1024, 0))
    for number in range(1, moments + 1):
        ledger.tick += 1
        ledger.number += 1
        extra = 0
        if number % 3 == 0:
            ledger.add(number, Life(512, 512, 0, ledger.tick, "forward", Owner("t"), "aten::add", (128,), "float32"))
            extra = 512
        temporary = 5000 if number == moments // 2 else 0
        ledger.moments.append(Moment(ledger.tick, number, "aten::add", "forward", 1024 + extra, temporary))
        ledger.tick += 1
        ledger.end(number)
    ledger.phases = [("forward", 1)]
    return ledger


@pytest.mark.parametrize("moments", [1, 5, 100, 1000, 3001])
def test_a_timeline_is_short_and_keeps_the_peak(moments: int) -> None:
    ledger = hand_made(moments)
    told = timeline(ledger, workspace_bytes=0, most_points=20)
    assert len(told["at"]) == min(20, moments + 1)
    assert told["at"] == sorted(set(told["at"]))
    assert (told["at"][0], told["at"][-1], told["operators"]) == (0, moments, moments)
    assert told["phases"] == [{"name": "forward", "from": 1}]
    assert told["constant_bytes"][BASE_WEIGHTS] == 1000
    assert told["constant_bytes"]["allocator_slack"] == 24
    totals = [
        sum(told["constant_bytes"].values()) + sum(values[index] for values in told["varying_bytes"].values())
        for index in range(len(told["at"]))
    ]
    assert max(totals) == ledger.peak().peak_bytes
    by_number = {moment.number: moment.peak_bytes for moment in ledger.moments}
    assert totals == [by_number[number] for number in told["at"]]


def test_a_timeline_says_what_no_storage_holds() -> None:
    ledger = hand_made(3)
    ledger.moments = [
        Moment(m.tick, m.number, m.operator, m.phase, m.allocated_bytes + 2148, 0) for m in ledger.moments
    ]
    told = timeline(ledger, workspace_bytes=2048)
    assert told["constant_bytes"]["library_workspaces"] == 2048
    assert told["constant_bytes"]["unattributed"] == 100


def linear_4bit(nested: bool) -> nn.Module:
    return bitsandbytes.nn.Linear4bit(64, 64, bias=False, quant_type="nf4", compress_statistics=nested).to("cpu")


def linear_8bit() -> nn.Module:
    layer = bitsandbytes.nn.Linear8bitLt(64, 64, bias=False, has_fp16_weights=False).to("cpu")
    # The first pass moves the scales from the weight to the layer's state.
    layer(torch.ones(1, 64, dtype=torch.float16))
    return layer


@pytest.mark.parametrize(
    ("make", "weight", "state"),
    [
        # A scale for each block of 64 weights, and the code book.
        pytest.param(lambda: linear_4bit(nested=False), 2048, [16 * FLOAT, 64 * FLOAT], id="nf4"),
        # The scales in a byte each, with their own scale, code book and offset.
        pytest.param(
            lambda: linear_4bit(nested=True), 2048, [FLOAT, FLOAT, 64, 16 * FLOAT, 256 * FLOAT], id="nf4-double"
        ),
        # A scale for each row.
        pytest.param(linear_8bit, 4096, [64 * FLOAT], id="int8"),
    ],
)
def test_quantization_state_is_what_bitsandbytes_keeps_beside_the_weight(
    make: Callable[[], nn.Module], weight: int, state: list[int]
) -> None:
    found: dict[str, list[int]] = {BASE_WEIGHTS: [], QUANTIZATION_STATE: []}
    seen: set[int] = set()
    layer = make()
    for category, _, tensor in held_by_model(layer):
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen.add(storage._cdata)
            found[category].append(storage.nbytes())
    assert found[BASE_WEIGHTS] == [weight]
    assert sorted(found[QUANTIZATION_STATE]) == state


def test_adapters_are_told_by_pefts_names() -> None:
    base = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 5))
    config = peft.LoraConfig(r=2, target_modules=["0"], modules_to_save=["1"])
    model = peft.get_peft_model(base, config)
    adapter = [tensor.numel() for category, _, tensor in held_by_model(model) if category == ADAPTER_WEIGHTS]
    # A and B, and the copy of the second layer with its bias.
    assert sorted(adapter) == sorted([2 * 4, 6 * 2, 30, 5])


def test_tensors_of_one_kind_are_counted_together_largest_first() -> None:
    ledger = Ledger()
    for number, (module, size) in enumerate([("model.layers.0.mlp", 8), ("model.layers.1.mlp", 8), ("head", 12)]):
        ledger.add(number, Life(size, size, 0, 1, "forward", Owner(module), "aten::mm", (size,), "uint8"))
    peak = Peak(ledger, Moment(1, 1, "aten::mm", "forward", 28, 0), 0)
    assert [(one["module"], one["count"], one["bytes"]) for one in peak.tensors()] == [
        ("model.layers.*.mlp", 2, 16),
        ("head", 1, 12),
    ]
    assert list(itertools.chain(peak.modules())) == ["model.layers.0", "model.layers.1", "head"]


def test_what_the_optimizer_takes_is_no_loss():
    """The forward pass ends in the loss, and nobody's pass is on when the optimizer steps."""
    made = [life for life in Trial().follow().ledger.lives if life.phase == "optimizer"]
    # AdamW's square roots of the second moments, for one.
    assert sum(life.nbytes for life in made) >= parameters(Model())
    assert {life.final_category for life in made} == {TEMPORARIES}
