"""Before any test module is imported: where there is no GPU, Triton interprets its kernels."""

import os

import torch

# Triton's own library is decorated when Triton is first imported, which PyTorch's compiler may do before a test gets to it.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
