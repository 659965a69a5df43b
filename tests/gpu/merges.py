"""Writes as JSON what one merge of all layers copies between GPU and CPU. A process of its own: the profiler stays.

usage: python merges.py '{"quantization": "nf4", ...}'        the settings of a case; the rest as a scenario has it
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from lorabench.model.adapter import attach
from lorabench.model.build import build_base
from lorabench.scenario import load_scenarios


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        scenario, trace = Path(folder) / "merges.yaml", Path(folder) / "trace.json"
        settings = {"scenario": "merges", "question": "What does a merge copy?", "task": "lifecycle"}
        scenario.write_text(json.dumps(settings | json.loads(sys.argv[1])))
        [[case]] = [one.cases for one in load_scenarios([scenario], "cuda")]
        model = attach(build_base(case, torch.device("cuda", 0)), case)
        layers = [layer for layer in model.modules() if hasattr(layer, "get_delta_weight")]
        weights = sum(layer.get_delta_weight("default").numel() for layer in layers)
        model.merge_adapter()
        model.unmerge_adapter()
        torch.cuda.synchronize()
        started = time.perf_counter()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
            model.merge_adapter()
            torch.cuda.synchronize()
            wall_s = time.perf_counter() - started
        profiled.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    copies = {
        way: [one for one in events if one.get("cat") == "gpu_memcpy" and way in one["name"]]
        for way in ("DtoH", "HtoD")
    }
    told = {
        way: {
            "copies": len(found),
            "bytes": sum(one["args"]["bytes"] for one in found),
            "s": sum(one["dur"] for one in found) / 1e6,
        }
        for way, found in copies.items()
    }
    sys.stdout.write(json.dumps({"wall_s": wall_s, "layers": len(layers), "weights": weights, **told}) + "\n")


if __name__ == "__main__":
    main()
