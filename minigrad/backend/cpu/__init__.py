"""Fused CPU kernels on plain NumPy arrays: blocks that stay in a core's cache, on all cores, in reused memory."""
