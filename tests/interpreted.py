"""Triton's interpreter, for tests that import this: kernels run on a CPU's tensors. On a GPU, ``test_gpu`` takes their place."""

import os

import pytest
import torch
import triton.language as tl
from triton.runtime import interpreter

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("kernels are compiled for the GPU here; TRITON_INTERPRET=1 interprets them", allow_module_level=True)


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """For the modules that import it: what the interpreter of Triton 3.6 does otherwise than a GPU.

    It keeps a scalar as an array of one element, which NumPy 2.4 no longer takes for the bound of a loop; and it cuts float32
    off to bfloat16 where a GPU rounds to nearest even. And every call of a helper patches Triton's language anew, to no effect
    within a kernel, which has done so: a quarter of the time.
    """
    patch, convert, patch_all = interpreter._patch_lang_tensor, interpreter._convert_float, interpreter._patch_lang

    def patched(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    def rounded(x, source, target, mode):
        if (source, target) == (tl.float32, tl.bfloat16):
            return torch.tensor(x).bfloat16().view(torch.uint16).numpy()
        return convert(x, source, target, mode)

    def patched_once(function):
        languages = [value for value in function.__globals__.values() if value is tl or value is tl.core]
        patched_already = not any(tl.core.is_builtin(language.load) for language in languages)
        return interpreter._LangPatchScope() if patched_already else patch_all(function)

    monkeypatch.setattr(interpreter, "_patch_lang", patched_once)
    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patched)
    monkeypatch.setattr(interpreter, "_convert_float", rounded)
