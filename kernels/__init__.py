"""Triton kernels on NHWC tensors, and the functions that launch them. They know tensors and numbers alone, no modules."""
