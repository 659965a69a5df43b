"""The regression gate: results against a committed baseline, exact for bytes.

``baseline`` reads and writes the file, ``tolerances`` says by how much a number may differ, ``pairing`` finds the
records that belong together, ``environments`` tells whether they can be compared, ``comparison`` compares two, and
``decision`` says what follows.
"""

from lorabench.analysis.gate.baseline import Baseline, make_baseline, read_baseline, write_baseline
from lorabench.analysis.gate.decision import Decision, Policy, decide, judge

__all__ = ["Baseline", "Decision", "Policy", "decide", "judge", "make_baseline", "read_baseline", "write_baseline"]
