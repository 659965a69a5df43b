"""Two interpreters, compared in time: pairs of processes, each one a sample, and a verdict that can be believed."""
