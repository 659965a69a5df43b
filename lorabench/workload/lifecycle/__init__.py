"""The life of adapters: attach, train, use, merge, save, restore, load, switch, disable, delete, unload.

Three walks through that life, each for itself so that none disturbs another: bytes (``memory``), outputs compared
(``findings``), and time (``timing``, and ``neighbours``, which also compares what it loads). Each builds models of its
own; the same seed gives them the same weights.

What a record's numbers mean here. **Static** memory is what is allocated once the adapter is attached: the base and one
adapter. The **peak** is the highest over the whole life after that, two training steps and ``adapter_count`` further
adapters included; **dynamic** is their difference. A phase's bytes are those of its occurrence with the highest peak.
A time is a phase's alone: the device is waited for before and after it, so that nothing else hides in it or is hidden.
"""

from __future__ import annotations

from lorabench.workload.lifecycle.life import Lifecycle

__all__ = ["Lifecycle"]
