"""Whisper's weights in the form of whisper.cpp (`ggml`), made of those in CTranslate2's form that the tests have.

Reads 16-bit floats alone, as `tiny.en` of the package index has them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.float16]]
_MAGIC = 0x67676D6C
_FLOAT16, _FLOAT32 = 1, 0
_LINEAR = {"weight": "weight", "bias": "bias"}
_NORM = {"gamma": "weight", "beta": "bias"}
_TOP = {
    "encoder/conv1/": "encoder.conv1.",
    "encoder/conv2/": "encoder.conv2.",
    "encoder/layer_norm/": "encoder.ln_post.",
    "decoder/layer_norm/": "decoder.ln.",
    "decoder/embeddings/": "decoder.token_embedding.",
}
_BLOCK = {
    "self_attention/layer_norm/": "attn_ln.",
    "self_attention/linear_0/": ("attn.query.", "attn.key.", "attn.value."),
    "self_attention/linear_1/": "attn.out.",
    "attention/layer_norm/": "cross_attn_ln.",
    "attention/linear_0/": "cross_attn.query.",
    "attention/linear_1/": ("cross_attn.key.", "cross_attn.value."),
    "attention/linear_2/": "cross_attn.out.",
    "ffn/layer_norm/": "mlp_ln.",
    "ffn/linear_0/": "mlp.0.",
    "ffn/linear_1/": "mlp.2.",
}


def write_ggml(model: Path, file: Path) -> None:
    """Write the model of a folder of CTranslate2 as one file of whisper.cpp."""
    from faster_whisper.feature_extractor import FeatureExtractor

    weights = _weights(model / "model.bin")
    vocabulary, width = weights["decoder/embeddings/weight"].shape
    layers = sum(name.endswith("ffn/linear_0/weight") and name.startswith("encoder") for name in weights)
    sizes = (width, width // 64, layers)
    with file.open("wb") as out:
        out.write(struct.pack("<12i", _MAGIC, vocabulary, 1500, *sizes, 448, *sizes, 80, 1))
        out.write(struct.pack("<2i", 80, 201) + FeatureExtractor().mel_filters.astype("<f4").tobytes())
        tokens = list(_tokens(model / "tokenizer.json"))
        out.write(struct.pack("<i", len(tokens)))
        for token in tokens:
            out.write(struct.pack("<i", len(token)) + token)
        for name, values in _renamed(weights):
            _write_tensor(out, name, values)


def _weights(file: Path) -> Weights:
    found: Weights = {}
    with file.open("rb") as data:

        def number(form: str) -> int:
            return int(struct.unpack(form, data.read(struct.calcsize(form)))[0])

        def text() -> str:
            return data.read(number("<H"))[:-1].decode()

        number("<I"), text(), number("<I")
        for _ in range(number("<I")):
            name = text()
            shape = [number("<I") for _ in range(number("<B"))]
            kind, content = number("<B"), data.read(number("<I"))
            if kind == 4:
                found[name] = np.frombuffer(content, "<f2").reshape(shape)
    return found


def _tokens(file: Path) -> Iterator[bytes]:
    """The ordinary tokens in order, as bytes: GPT-2's tokenizer writes each byte as a letter that can be seen."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in shown}
    letters |= {byte: chr(256 + n) for n, byte in enumerate(sorted(set(range(256)) - set(shown)))}
    bytes_of = {letter: byte for byte, letter in letters.items()}
    ordinary = json.loads(file.read_text(encoding="utf-8"))["model"]["vocab"]
    for token in sorted(ordinary, key=ordinary.__getitem__):
        if not token.startswith("<|"):
            yield bytes(bytes_of[letter] for letter in token)


def _renamed(weights: Weights) -> Iterator[tuple[str, NDArray[np.float16]]]:
    for name, values in weights.items():
        place, _, kind = name.rpartition("/")
        half, _, rest = f"{place}/".partition("/layer_")
        if place.endswith("position_encodings"):
            yield f"{name.split('/')[0]}.positional_embedding", values
        elif f"{place}/" in _TOP:
            bias = kind == "bias" and "conv" in place
            yield _TOP[f"{place}/"] + (_LINEAR | _NORM)[kind], values[:, None] if bias else values
        elif rest and rest[0].isdigit():
            number, _, what = rest.partition("/")
            targets = _BLOCK[what]
            targets = (targets,) if isinstance(targets, str) else targets
            for target, part in zip(targets, np.split(values, len(targets)), strict=True):
                if not target.endswith("key.") or kind == "weight":
                    yield f"{half}.blocks.{number}.{target}{(_LINEAR | _NORM)[kind]}", part


def _write_tensor(out: BinaryIO, name: str, values: NDArray[np.float16]) -> None:
    small = values.ndim == 1 or "positional" in name or name.endswith("bias")
    out.write(struct.pack("<3i", values.ndim, len(name), _FLOAT32 if small else _FLOAT16))
    out.write(struct.pack(f"<{values.ndim}i", *reversed(values.shape)) + name.encode())
    out.write(values.astype("<f4" if small else "<f2").tobytes())
