"""Modules under the dotted paths of published state dicts."""

from torch import nn


def place(root: nn.Module, path: str, module: nn.Module) -> None:
    """Append ``module`` to ``root`` under a path such as "encoder.enc1.conv"; on the way come sequences, made where they lack."""
    folder, _, name = path.rpartition(".")
    for part in filter(None, folder.split(".")):
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Sequential())
        root = root.get_submodule(part)
    root.add_module(name, module)
