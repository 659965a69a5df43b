"""Scenario files: read, validated, and expanded to cases. Imports no torch."""

from lorabench.scenario.load import Scenario, load_scenarios
from lorabench.scenario.schema import json_schema
from lorabench.scenario.select import select

__all__ = ["Scenario", "json_schema", "load_scenarios", "select"]
