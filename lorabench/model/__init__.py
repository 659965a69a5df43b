"""What is measured: models as people load them, with quantization and adapters, and proof of what was built."""
