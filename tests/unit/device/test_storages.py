"""Every storage is reported once when it is born and once when it dies, whoever holds it."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lorabench.device.storages import StorageMode

FLOAT = 4


class Ledger:
    """A sink that remembers everything and refuses events that make no sense."""

    def __init__(self) -> None:
        self.live: dict[int, int] = {}
        self.born: list[int] = []
        self.events: list[str] = []

    def on_alloc(self, nbytes: int, storage_id: int) -> None:
        assert storage_id not in self.live
        self.live[storage_id] = nbytes
        self.born.append(nbytes)
        self.events.append(f"+{nbytes}")

    def on_free(self, storage_id: int) -> None:
        self.events.append(f"-{self.live.pop(storage_id)}")

    @property
    def live_bytes(self) -> int:
        return sum(self.live.values())


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_a_storage_is_reported_once_however_many_views_share_it(ledger: Ledger) -> None:
    with StorageMode(ledger):
        x = torch.ones(100)
        views = [x[10:], x.view(10, 10).t(), x.detach(), x.expand(5, 100), x.add_(1)]
        assert ledger.born == [100 * FLOAT]
        del x, views
    assert ledger.events == ["+400", "-400"]


def test_the_last_view_keeps_the_whole_storage(ledger: Ledger) -> None:
    with StorageMode(ledger):
        x = torch.ones(100)
        last = x[99:]
        del x
        assert ledger.live_bytes == 400
        del last
        assert ledger.live_bytes == 0


def test_a_storage_held_only_by_a_saved_tensor_stays(ledger: Ledger) -> None:
    x = torch.ones(50, requires_grad=True)
    with StorageMode(ledger):
        loss = x.exp().exp().sum()
        gc.collect()
        # Each exp saves its result, and no Python name holds either of them.
        assert ledger.live_bytes == 2 * 50 * FLOAT + FLOAT
        loss.backward()
        # The gradient, the scalar loss, and ones_like(loss) are made; only the first two have an owner left.
        assert ledger.live_bytes == 50 * FLOAT + FLOAT


def test_deaths_are_heard_after_the_mode_is_left(ledger: Ledger) -> None:
    with StorageMode(ledger):
        x = torch.ones(100)
    x.mul_(2)
    del x
    assert ledger.events == ["+400", "-400"]


def test_storages_born_outside_are_not_reported(ledger: Ledger) -> None:
    with StorageMode(ledger):
        pass
    assert torch.ones(100).numel() == 100
    assert ledger.events == []


def test_resizing_is_a_birth_then_a_death(ledger: Ledger) -> None:
    with StorageMode(ledger):
        x = torch.ones(10)
        x.resize_(1000)
        assert ledger.events == ["+40", "+4000", "-40"]
        x.resize_(5)
        assert ledger.live_bytes == 4000, "shrinking keeps the storage"
        del x
    assert ledger.live_bytes == 0


def test_out_arguments_grow_and_set_changes_the_storage(ledger: Ledger) -> None:
    with StorageMode(ledger):
        out = torch.empty(0)
        torch.add(torch.ones(8), torch.ones(8), out=out)
        assert ledger.live_bytes == 8 * FLOAT
        other = torch.ones(3)
        out.set_(other)
        assert ledger.live_bytes == 3 * FLOAT
        del out, other
    assert ledger.live_bytes == 0


def test_lists_of_results_and_foreach_in_place(ledger: Ledger) -> None:
    with StorageMode(ledger):
        parts = torch.ones(12).split(4)
        assert ledger.live_bytes == 12 * FLOAT
        roots = torch._foreach_sqrt(list(parts))
        assert ledger.live_bytes == 24 * FLOAT
        torch._foreach_add_(roots, 1.0)
        assert ledger.live_bytes == 24 * FLOAT


def test_track_counts_modules_and_tensors_once(ledger: Ledger) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
    model[0].bias = model[1].bias
    held = torch.ones(7)
    mode = StorageMode(ledger)
    mode.track(model, held)
    mode.track(model)
    parameters = 4 * 8 + 8 + 8
    buffers = 8 + 8
    assert ledger.live_bytes == (parameters + buffers + 7) * FLOAT + 8  # num_batches_tracked is one int64
    with mode:
        model(torch.ones(2, 4)).sum().backward()
    del model, held
    gc.collect()
    assert ledger.live_bytes == 0


def test_a_storage_that_no_operator_made_counts_from_its_first_view(ledger: Ledger) -> None:
    numpy = pytest.importorskip("numpy")
    with StorageMode(ledger):
        x = torch.from_numpy(numpy.zeros(100, dtype="float32"))
        view = x.view(10, 10)
        assert ledger.live_bytes == 400
        del x, view
    assert ledger.live_bytes == 0


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        square = x * x
        ctx.save_for_backward(square)
        return square * x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (square,) = ctx.saved_tensors
        return 3 * square * grad


def test_custom_functions_and_their_saved_tensors(ledger: Ledger) -> None:
    x = torch.ones(100, requires_grad=True)
    with StorageMode(ledger):
        y = Cube.apply(x)
        assert ledger.live_bytes == 2 * 400, "square (saved) and y"
        y.sum().backward()
        del y
    # 3 * square and (3 * square) * grad were seen in backward; the last is the gradient.
    assert ledger.born == [400, 400, 4, 4, 400, 400]
    assert ledger.live_bytes == 400


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_frees_in_forward_and_recomputes_in_backward(ledger: Ledger, use_reentrant: bool) -> None:
    n = 1000
    with StorageMode(ledger):
        x = torch.zeros(n, requires_grad=True)
        y = checkpoint(lambda t: t.exp().exp().exp(), x, use_reentrant=use_reentrant, preserve_rng_state=False)
        assert ledger.live_bytes == 2 * n * FLOAT, "x and y; the two inner results are gone"
        forward_births = len(ledger.born)
        loss = y.sum()
        loss.backward()
        recomputed_and_gradients = [size for size in ledger.born[forward_births:] if size == n * FLOAT]
        # Three recomputed results, and one product grad * result for each exp.
        assert len(recomputed_and_gradients) == 6
        del y, loss
    assert ledger.live_bytes == 2 * n * FLOAT, "x and its gradient"


@pytest.mark.parametrize("foreach", [True, False])
def test_optimizer_state_of_adamw(ledger: Ledger, foreach: bool) -> None:
    parameters = [nn.Parameter(torch.zeros(100)), nn.Parameter(torch.zeros(30))]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer = torch.optim.AdamW(parameters, foreach=foreach)
    mode = StorageMode(ledger)
    mode.track(*parameters, *[parameter.grad for parameter in parameters if parameter.grad is not None])
    static = ledger.live_bytes
    with mode:
        optimizer.step()
    gc.collect()
    # exp_avg and exp_avg_sq for each parameter, and one fp32 scalar that counts its steps.
    assert ledger.live_bytes - static == 2 * 130 * FLOAT + 2 * FLOAT


def test_bitsandbytes_operators_are_seen(ledger: Ledger) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = torch.randn(64, 64)
    with StorageMode(ledger):
        packed, state = functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    live = sorted(ledger.live.values())
    assert 64 * 64 // 2 in live, "two weights a byte"
    assert 64 * 64 // 64 * FLOAT in live, "one fp32 scale a block"
    del packed, state


def test_nested_modes_below_still_run(ledger: Ledger) -> None:
    fake_tensor = pytest.importorskip("torch._subclasses.fake_tensor")
    with fake_tensor.FakeTensorMode(), StorageMode(ledger):
        x = torch.empty(1 << 40)
        y = (x * 2).view(2, -1)
        assert ledger.live_bytes == 2 * (1 << 40) * FLOAT
        del x, y
    assert ledger.live_bytes == 0
