"""What a user would write by hand, for one case, in a process of its own. It shares nothing with lorabench.

usage: python plain.py '{"model_type": "llama", "config": {...}, ...}'        prints one JSON object

The bench's bytes are compared with these to the byte. The model is saved with random weights once and loaded with
from_pretrained, as people load theirs.
"""

import gc
import json
import statistics
import sys
import tempfile
import time

import torch
import transformers
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load(spec):
    config = AutoConfig.for_model(spec["model_type"], **spec["config"])
    quantization = spec["quantization"]
    options = {"dtype": DTYPES.get(quantization, torch.bfloat16)}
    if quantization == "int8":
        threshold = spec.get("int8_threshold", 6.0)
        options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=threshold)
    elif quantization == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_use_double_quant=spec.get("double_quantization", False),
        )
    with tempfile.TemporaryDirectory() as folder:
        with torch.device("cuda"):
            model = AutoModelForCausalLM.from_config(config, dtype=options["dtype"])
        model.save_pretrained(folder)
        del model
        gc.collect()
        torch.cuda.empty_cache()
        return AutoModelForCausalLM.from_pretrained(
            folder, device_map={"": 0}, attn_implementation=spec.get("attention", "sdpa"), **options
        )


def attach(model, spec):
    if spec.get("kbit_preparation"):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if spec.get("rank"):
        targets = spec.get("target_modules", ["q_proj", "v_proj"])
        model = get_peft_model(
            model,
            LoraConfig(
                r=spec["rank"],
                lora_alpha=16,
                lora_dropout=spec.get("dropout", 0.0),
                target_modules=targets,
                task_type="CAUSAL_LM",
            ),
        )
    checkpointing = spec.get("gradient_checkpointing", "none")
    if checkpointing != "none":
        model.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": checkpointing == "reentrant"}
        )
        model.enable_input_require_grads()
    return model


def train(model, spec, times):
    model.train()
    model.config.use_cache = False
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if spec.get("optimizer", "adamw") == "adamw-8bit":
        import bitsandbytes

        optimizer = bitsandbytes.optim.AdamW8bit(parameters, lr=1e-4)
    elif spec.get("optimizer") == "sgd":
        optimizer = torch.optim.SGD(parameters, lr=1e-4)
    else:
        optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    vocabulary = spec["config"]["vocab_size"]
    ids = torch.randint(vocabulary, (spec["batch_size"], spec["sequence_length"]), device="cuda")
    for step in range(spec.get("steps", 5)):
        if step == 2:
            torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        started = time.perf_counter()
        out = model(input_ids=ids, labels=ids)
        out.loss.backward()
        del out
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)


@torch.no_grad()
def infer(model, spec, times):
    model.eval()
    vocabulary = spec["config"]["vocab_size"]
    ids = torch.randint(vocabulary, (spec["batch_size"], spec["sequence_length"]), device="cuda")
    for run in range(2):
        if run == 1:
            torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        started = time.perf_counter()
        out = model(input_ids=ids, use_cache=True, logits_to_keep=1)
        for _ in range(spec["new_tokens"]):
            token = out.logits[:, -1:].argmax(-1)
            out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)
        del out, token
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)


def main():
    spec = json.loads(sys.argv[1])
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    model = load(spec)
    state = spec.get("adapter_state", "unmerged")
    if spec["task"] == "train" or state != "base":
        model = attach(model, spec)
    if spec["task"] == "infer" and state == "merged":
        model = model.merge_and_unload()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    static = torch.cuda.memory_allocated()
    times = []
    (train if spec["task"] == "train" else infer)(model, spec, times)
    measured = {
        "static_bytes": static,
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(),
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
        "step_s": statistics.median(times[2:] or times),
    }
    sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    main()
