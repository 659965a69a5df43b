"""Shows records to people. Never imports torch."""
