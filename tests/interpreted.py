"""Triton's interpreter, for tests that import this: kernels run on a CPU's tensors. On a GPU, ``test_gpu`` takes their place."""

import os
from dataclasses import replace
from functools import cache

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
    off to bfloat16 where a GPU rounds to nearest even. And it repeats what has no effect, most of its time: each call of a helper
    patches Triton's language anew within a kernel, which has done so; each integer sum is checked for overflow by an assertion
    that is off; each result looks its dtype up in a table of that moment.
    """
    looked_up = interpreter._get_np_dtype
    known = cache(looked_up)
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
    monkeypatch.setattr(
        interpreter, "_get_np_dtype", lambda dtype: looked_up(dtype) if dtype.scalar.is_ptr() else known(dtype.scalar)
    )
    options = interpreter.interpreter_builder.options
    assert not options.debug
    monkeypatch.setattr(interpreter.interpreter_builder, "options", replace(options, sanitize_overflow=False))
