"""bitsandbytes on fake tensors, as it runs on CUDA: its kernels' memory, its parameters and the way it takes."""
