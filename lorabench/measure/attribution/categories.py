"""The categories of bytes, as records name them, in the order in which a chart stacks them."""

from __future__ import annotations

BASE_WEIGHTS = "base_weights"
"""Parameters and buffers of the base model, quantized or not."""
QUANTIZATION_STATE = "quantization_state"
"""Scales, code books and whatever else bitsandbytes keeps beside a quantized weight."""
ADAPTER_WEIGHTS = "adapter_weights"
"""All that PEFT added, copies of heads that it trains whole included."""
OPTIMIZER_STATE = "optimizer_state"
INPUTS = "inputs"
"""Token ids, masks and labels."""
GRADIENTS = "gradients"
"""Of parameters. Gradients of activations live for a moment, and are temporaries."""
KV_CACHE = "kv_cache"
ACTIVATIONS = "activations"
"""Kept from a forward pass for the backward pass, recomputed ones included: what autograd's nodes save, and what
functions keep on their context, where hooks on saved tensors do not see it."""
LOGITS_AND_LOSS = "logits_and_loss"
"""What the output head makes and all that the loss makes of it, in the backward pass down to the head's product."""
TEMPORARIES = "temporaries"
"""Everything else that a step makes, and what kernels take and give back within one operator."""
LIBRARY_WORKSPACES = "library_workspaces"
"""Kept by cuBLAS and its like from call to call."""
ALLOCATOR_SLACK = "allocator_slack"
"""What blocks have beyond the bytes asked for: rounding, and remainders that are not split off."""

CATEGORIES = (
    *(BASE_WEIGHTS, QUANTIZATION_STATE, ADAPTER_WEIGHTS, OPTIMIZER_STATE, LIBRARY_WORKSPACES, INPUTS),
    *(GRADIENTS, KV_CACHE, ACTIVATIONS, LOGITS_AND_LOSS, TEMPORARIES, ALLOCATOR_SLACK),
)
