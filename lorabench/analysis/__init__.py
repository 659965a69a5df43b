"""Reads records and draws conclusions. Never imports torch."""
