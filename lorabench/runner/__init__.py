"""Runs cases, each in a process of its own, and turns what came back, or did not, into records."""
