"""A Whisper model of a megabyte that says what it was made to say, in CTranslate2's format: no download, no training.

Its layers are all zero, so what reaches the last one is the embedding of the token plus that of its place. The place
points at the token that is due there: the language after ``<|startoftranscript|>``, the words after the prompt, the
end after the words. What is said into it makes no difference; the package, the format, the features, the decoding
and the numbers that come with the text are the real ones.
"""

from pathlib import Path

import ctranslate2
import numpy as np
from ctranslate2.specs import WhisperSpec
from tokenizers import Tokenizer, models, pre_tokenizers

DIM = 32
PLACES = 448

SURE = 40.0
"""The logit of the token that is due; the others are near 0."""

CODES = ("en", "hi", "te", "gu")


def make(
    folder: Path,
    said: str,
    *,
    language: str = "hi",
    silence: bool = False,
    english_only: bool = False,
) -> Path:
    """Writes the model. With ``silence`` it takes what it hears for no speech, and speaks all the same.

    ``english_only``: a model without languages.
    """
    words = list(dict.fromkeys(said.split()))
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in CODES), "<|translate|>"]
    special += ["<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    special += [f"<|{tick * 0.02:.2f}|>" for tick in range(1501)]
    # The empty token is what CTranslate2 knows a multilingual model by.
    vocabulary = ["<unk>", *words, *([] if english_only else [""]), *special]
    ids = {token: number for number, token in enumerate(vocabulary)}
    due = [f"<|{language}|>" if not silence else "<|nospeech|>", "<|transcribe|>", "<|notimestamps|>", *said.split()]
    if english_only:
        due = ["<|notimestamps|>", *said.split()]
    due.append("<|endoftext|>")

    spec = WhisperSpec(1, 1, 1, 1)
    _zero(spec)
    dims = {token: number for number, token in enumerate(dict.fromkeys(due))}
    embeddings, places = _zeros(len(vocabulary), DIM), _zeros(PLACES, DIM)
    for token, dim in dims.items():
        embeddings[ids[token], dim] = 1.0
    for place in range(PLACES):
        places[place, dims[due[min(place, len(due) - 1)]]] = 100.0
    spec.decoder.embeddings.weight = embeddings
    spec.decoder.projection.weight = embeddings.copy()
    spec.decoder.position_encodings.encodings = places
    spec.decoder.layer_norm.gamma = np.full(DIM, SURE / DIM**0.5, np.float32)
    spec.config.lang_ids = [ids[f"<|{code}|>"] for code in CODES]
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = []
    spec.config.alignment_heads = [(0, 0)]
    spec.register_vocabulary(vocabulary)
    spec.validate()
    spec.optimize()
    folder.mkdir(parents=True)
    spec.save(str(folder))

    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert ctranslate2.contains_model(str(folder))
    return folder


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def _zero(spec: WhisperSpec) -> None:
    encoder, decoder = spec.encoder, spec.decoder
    encoder.conv1.weight, encoder.conv1.bias = _zeros(DIM, 80, 3), _zeros(DIM)
    encoder.conv2.weight, encoder.conv2.bias = _zeros(DIM, DIM, 3), _zeros(DIM)
    encoder.position_encodings.encodings = _zeros(1500, DIM)
    _norm(encoder.layer_norm)
    _norm(decoder.layer_norm)
    for layer in (*encoder.layer, *decoder.layer):
        _attention(layer.self_attention, 3 * DIM, DIM)
        _norm(layer.ffn.layer_norm)
        _linear(layer.ffn.linear_0, 4 * DIM, DIM)
        _linear(layer.ffn.linear_1, DIM, 4 * DIM)
    for layer in decoder.layer:
        _attention(layer.attention, DIM, 2 * DIM, DIM)


def _attention(spec: object, *outputs: int) -> None:
    _norm(spec.layer_norm)
    for linear, size in zip(spec.linear, outputs, strict=True):
        _linear(linear, size, DIM)


def _linear(spec: object, outputs: int, inputs: int) -> None:
    spec.weight, spec.bias = _zeros(outputs, inputs), _zeros(outputs)


def _norm(spec: object) -> None:
    spec.gamma, spec.beta = np.ones(DIM, np.float32), _zeros(DIM)
