"""What pairs of processes say of two interpreters: a verdict on each comparison, whenever it is asked for."""

from lorabench.analysis.paired.family import Family
from lorabench.analysis.paired.judgement import Judgement, Rules, Verdict

__all__ = ["Family", "Judgement", "Rules", "Verdict"]
