"""Writes as JSON the launch overhead of work whose overhead is known. A process of its own: the profiler stays in one.

One matrix product of hundreds of milliseconds waits for nothing; thousands of additions of a few numbers wait for
the host most of the time.
"""

import json
import sys
import time

import torch

from lorabench.device.cuda import CudaDevice
from lorabench.measure.launch import ProfiledPhases, launch_bound
from lorabench.measure.phases import TimedPhases

ADDITIONS = 5000


def main() -> None:
    device = CudaDevice()
    large = torch.ones(16384, 16384, device="cuda")
    small = torch.ones(16, device="cuda")

    def step(phases: TimedPhases | ProfiledPhases) -> None:
        with phases("product"):
            large @ large
        device.synchronize()
        with phases("additions"):
            for _ in range(ADDITIONS):
                small.add_(1)
        device.synchronize()

    timed = TimedPhases(device, lambda phase: None)
    for _ in range(3):
        with timed.step():
            step(timed)
    profiling_s = []
    for _ in range(2):
        profiled = ProfiledPhases(device, lambda phase: None)
        started = time.perf_counter()
        step(profiled)
        profiling_s.append(time.perf_counter() - started)
    busy_s, wall_s = profiled.samples_s(), timed.samples_s()
    shares = launch_bound(busy_s, wall_s)
    measured = {"shares": shares, "busy_s": busy_s, "wall_s": wall_s, "profiling_s": profiling_s}
    sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    main()
