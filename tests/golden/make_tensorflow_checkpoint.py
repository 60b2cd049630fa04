"""Writes `tensorflow_checkpoint/` with TensorFlow itself (2.21.0): a narrow Contextual Attention, as its authors' code names it.

    python make_tensorflow_checkpoint.py KEYS.json   # {key of the PyTorch state dict: shape}

TensorFlow is no dependency of the project; the folder is kept, and read without it.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "tensorflow_checkpoint"


def name_of(key: str) -> str:
    stage, layer, _, kind = key.split(".")
    if stage == "fine_generator" and layer.startswith("conv"):
        layer = "x" + layer
    if re.fullmatch(r"(all)?conv1[35]", layer):
        layer = f"{layer}_upsample/{layer}_upsample_conv"
    return f"inpaint_net/{layer}/{'kernel' if kind == 'weight' else 'bias'}"


def value_of(key: str, shape: list[int]) -> np.ndarray:
    """Numbers that say where they stand."""
    return (np.arange(np.prod(shape)) / 1024 + sum(key.encode())).reshape(shape).astype(np.float32)


def main() -> None:
    import tensorflow as tf

    shapes = json.loads(Path(sys.argv[1]).read_text())
    with tf.Graph().as_default():
        for key, shape in shapes.items():
            value = value_of(key, shape)
            tf.compat.v1.get_variable(name_of(key), initializer=value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)
        tf.compat.v1.get_variable("discriminator/conv1/kernel", initializer=np.zeros(3, np.float32))
        tf.compat.v1.get_variable("global_step", initializer=np.int64(430000))
        tf.compat.v1.get_variable("flag", initializer=np.True_)
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            tf.compat.v1.train.Saver().save(session, str(FOLDER / "snap-0"), write_meta_graph=False)
    (FOLDER / "checkpoint").unlink()  # it has the path of this machine


if __name__ == "__main__":
    main()
