"""How it is observed: phases, latency, and later attribution."""
