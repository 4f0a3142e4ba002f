"""A stand-in for a Piper voice: the same inputs and outputs, a tone for each phoneme instead of speech.

Made with the ``onnx`` package after what ``piper-tts`` gives a model (``piper/voice.py``, ``phoneme_ids_to_audio``):
``input`` (phoneme ids), ``input_lengths``, ``scales`` (noise, length, width) and ``sid`` (the speaker). Each phoneme
lasts ``STEP`` samples times the length scale, at a pitch of its own; the second output, where there is one, is how
long each lasts, in hops.
"""

import json
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP

RATE = 22_050
HOP = 256
STEP = 4 * HOP


def write_voice(
    path: Path,
    *,
    language: str = "en",
    espeak: str = "en-us",
    speakers: int = 1,
    aligned: bool = False,
    rate: int = RATE,
) -> Path:
    """Writes ``path`` (``.onnx``) and its ``.onnx.json``."""
    onnx.save(_model(speakers > 1, aligned), str(path))
    described = {
        "audio": {"sample_rate": rate, "quality": "standin"},
        "espeak": {"voice": espeak},
        "language": {"code": f"{language}_XX", "family": language},
        "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
        "phoneme_type": "espeak",
        "phoneme_id_map": DEFAULT_PHONEME_ID_MAP,
        "num_symbols": 256,
        "num_speakers": speakers,
        "speaker_id_map": {f"s{n}": n for n in range(speakers)} if speakers > 1 else {},
        "hop_length": HOP,
    }
    Path(f"{path}.json").write_text(json.dumps(described), encoding="utf-8")
    return path


def _model(with_speakers: bool, aligned: bool) -> onnx.ModelProto:
    constants = {
        "one": [1.0], "step": [float(STEP)], "hop": [float(HOP)], "base": [150.0], "gain": [4.0], "turn": [6.2831853],
        "rate": [float(RATE)], "loud": [0.6], "deep": [40.0],
    }  # fmt: skip
    numbers = {"axis0": [0], "flat": [-1], "to3": [1, 1, -1], "length_at": [1]}
    nodes = [
        helper.make_node("Reshape", ["input", "flat"], ["ids"]),
        helper.make_node("Shape", ["ids"], ["count_i"]),
        helper.make_node("Cast", ["count_i"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["scales", "length_at"], ["length"]),
        helper.make_node("Mul", ["step", "length"], ["per_raw"]),
        helper.make_node("Floor", ["per_raw"], ["per"]),
        helper.make_node("Mul", ["per", "count"], ["total"]),
        helper.make_node("Squeeze", ["total", "axis0"], ["total_s"]),
        helper.make_node("Range", ["zero_s", "total_s", "one_s"], ["time"]),
        helper.make_node("Div", ["time", "per"], ["place"]),
        helper.make_node("Floor", ["place"], ["place_f"]),
        helper.make_node("Cast", ["place_f"], ["place_i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["ids", "place_i"], ["id_i"]),
        helper.make_node("Cast", ["id_i"], ["id"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["id", "gain"], ["above"]),
        helper.make_node("Add", ["above", "base"], ["pitch_0"]),
        helper.make_node("Mul", ["pitch", "time"], ["cycles_r"]),
        helper.make_node("Div", ["cycles_r", "rate"], ["cycles"]),
        helper.make_node("Mul", ["cycles", "turn"], ["phase"]),
        helper.make_node("Sin", ["phase"], ["wave"]),
        helper.make_node("Mul", ["wave", "loud"], ["sound"]),
        helper.make_node("Reshape", ["sound", "to3"], ["output"]),
    ]
    inputs = [
        helper.make_tensor_value_info("input", TensorProto.INT64, [1, None]),
        helper.make_tensor_value_info("input_lengths", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
    ]
    if with_speakers:
        inputs.append(helper.make_tensor_value_info("sid", TensorProto.INT64, [1]))
        lower = [
            helper.make_node("Cast", ["sid"], ["sid_f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["sid_f", "deep"], ["shift"]),
            helper.make_node("Add", ["pitch_0", "shift"], ["pitch"]),
        ]
    else:
        lower = [helper.make_node("Identity", ["pitch_0"], ["pitch"])]
    nodes[16:16] = lower
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, None])]
    if aligned:
        nodes += [
            helper.make_node("Div", ["per", "hop"], ["hops"]),
            helper.make_node("Expand", ["hops", "count_i"], ["lasting"]),
            helper.make_node("Reshape", ["lasting", "to3"], ["durations"]),
        ]
        outputs.append(helper.make_tensor_value_info("durations", TensorProto.FLOAT, [1, 1, None]))
    tensors = [helper.make_tensor(name, TensorProto.FLOAT, [1], value) for name, value in constants.items()]
    tensors += [helper.make_tensor(name, TensorProto.INT64, [len(value)], value) for name, value in numbers.items()]
    tensors += [
        helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in (("zero_s", 0.0), ("one_s", 1.0))
    ]
    graph = helper.make_graph(nodes, "standin", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
