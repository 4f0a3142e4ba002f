"""Writes the 8 kHz half of Silero VAD's ONNX file as the arrays that ``antiphon.media.silero`` multiplies with.

Needed only when the model changes. The source is ``silero_vad/data/silero_vad.onnx`` of the MIT-licensed
``silero-vad`` wheel (6.2.3 when this was last run)::

    pip install onnx numpy
    python scripts/extract_silero.py silero_vad.onnx src/antiphon/data/silero/vad_8k.npz

The graph holds both rates as the branches of one ``If`` on the sample rate; the 8 kHz branch is the one
whose transform has 128 taps. Arrays keep the model's own names and shapes; nothing is folded or reordered here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

# Name in the model (after the branch's prefix) -> shape at 8 kHz.
SHAPES = {
    "stft.forward_basis_buffer": (130, 1, 128),
    "encoder.0.reparam_conv.weight": (128, 65, 3),
    "encoder.0.reparam_conv.bias": (128,),
    "encoder.1.reparam_conv.weight": (64, 128, 3),
    "encoder.1.reparam_conv.bias": (64,),
    "encoder.2.reparam_conv.weight": (64, 64, 3),
    "encoder.2.reparam_conv.bias": (64,),
    "encoder.3.reparam_conv.weight": (128, 64, 3),
    "encoder.3.reparam_conv.bias": (128,),
    "decoder.rnn.weight_ih": (512, 128),
    "decoder.rnn.weight_hh": (512, 128),
    "decoder.rnn.bias_ih": (512,),
    "decoder.rnn.bias_hh": (512,),
    "decoder.decoder.2.weight": (1, 128, 1),
    "decoder.decoder.2.bias": (1,),
}


def branches(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """The two graphs under the top-level ``If``."""
    (choice,) = (node for node in graph.node if node.op_type == "If")
    return [attribute.g for attribute in choice.attribute]


def constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """The branch's weight constants, by the part of their name that the two branches share."""
    found: dict[str, np.ndarray] = {}
    for node in graph.node:
        if node.op_type != "Constant":
            continue
        for name in SHAPES:
            if node.output[0].endswith("__" + name):
                found[name] = numpy_helper.to_array(node.attribute[0].t)
    return found


def main(source: str, target: str) -> None:
    candidates = [constants(branch) for branch in branches(onnx.load(source).graph)]
    (weights,) = (c for c in candidates if c["stft.forward_basis_buffer"].shape == SHAPES["stft.forward_basis_buffer"])
    wrong = {n: (weights[n].shape, s) for n, s in SHAPES.items() if n not in weights or weights[n].shape != s}
    if wrong:
        raise SystemExit(f"{source} is not the model this was written for: {wrong}")
    np.savez_compressed(target, **{name: weights[name].astype(np.float32) for name in SHAPES})
    sys.stdout.write(f"{target}: {len(weights)} arrays, {Path(target).stat().st_size} bytes\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])
