"""Whisper models with the true architecture and vocabulary and random weights, in CTranslate2's format.

Speed and memory are those of the real thing; the words mean nothing. Random weights do not know when to stop, so bound
decoding (`max_new_tokens`) and switch the quality thresholds off.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import whisper_spec
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SHAPES = {
    "nano": (64, 2, 2, 80),
    "tiny": (384, 4, 6, 80),
    "base": (512, 6, 8, 80),
    "small": (768, 12, 12, 80),
    "turbo": (1280, 32, 20, 128),
}
"""Name: width, encoder layers, attention heads, mel bands. (`turbo` has four decoder layers, the others as many.)"""
_CODES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml "
    "cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am "
    "yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su"
)
LANGUAGES = _CODES.split()
TEXT_TOKENS = 50257
CONTROL = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")


def write_model(name: str, folder: Path, seed: int = 0) -> None:
    """Write the files of a local model of shape `name` into `folder`; the same seed, the same weights."""
    width, layers, heads, mels = SHAPES[name]
    decoder_layers = 4 if name == "turbo" else layers
    languages = LANGUAGES + (["yue"] if mels == 128 else [])
    tokenizer = _tokenizer(languages)
    model = whisper_spec.WhisperSpec(layers, heads, decoder_layers, heads)
    _fill(model, width, mels, tokenizer.get_vocab_size(), np.random.default_rng(seed))
    tokens = [""] * tokenizer.get_vocab_size()
    for token, index in tokenizer.get_vocab().items():
        tokens[index] = token
    tokens[TEXT_TOKENS - 1] = ""  # by this token CTranslate2 knows a multilingual model
    model.register_vocabulary(tokens)
    model.config.suppress_ids, model.config.suppress_ids_begin = [], []
    model.config.lang_ids = [tokenizer.token_to_id(f"<|{code}|>") for code in languages]
    model.config.alignment_heads = [(decoder_layers - 1, 0)]
    model.validate()
    model.optimize(quantization="float32")
    folder.mkdir(parents=True, exist_ok=True)
    model.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocabulary.json").write_text(json.dumps(tokens, ensure_ascii=False), encoding="utf-8")
    if mels != 80:
        (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": mels}), encoding="utf-8")


def _tokenizer(languages: list[str]) -> Tokenizer:
    """Byte-level, with Whisper's order of ids: text, then control tokens, then time stamps."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    merges: list[tuple[str, str]] = []
    for left, right in ((left, right) for left in letters for right in letters):
        if len(vocabulary) == TEXT_TOKENS:
            break
        vocabulary.setdefault(left + right, len(vocabulary))
        merges.append((left, right))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in languages), *CONTROL]
    tokenizer.add_special_tokens(marks)
    stamps = [AddedToken(f"<|{step * 0.02:.2f}|>", special=False, normalized=False) for step in range(1501)]
    tokenizer.add_tokens(stamps)
    return tokenizer


def _fill(model: Any, width: int, mels: int, vocabulary: int, chance: np.random.Generator) -> None:
    def matrix(*shape: int, scale: float) -> NDArray[np.float32]:
        return chance.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    def linear(spec: Any, inputs: int, outputs: int) -> None:
        spec.weight = matrix(outputs, inputs, scale=inputs**-0.5)
        spec.bias = np.zeros(outputs, np.float32)

    def norm(spec: Any) -> None:
        spec.gamma, spec.beta = np.ones(width, np.float32), np.zeros(width, np.float32)

    def block(layer: Any, crossed: bool) -> None:
        norm(layer.self_attention.layer_norm)
        linear(layer.self_attention.linear[0], width, 3 * width)
        linear(layer.self_attention.linear[1], width, width)
        if crossed:
            norm(layer.attention.layer_norm)
            linear(layer.attention.linear[0], width, width)
            linear(layer.attention.linear[1], width, 2 * width)
            linear(layer.attention.linear[2], width, width)
        norm(layer.ffn.layer_norm)
        linear(layer.ffn.linear_0, width, 4 * width)
        linear(layer.ffn.linear_1, 4 * width, width)

    encoder, decoder = model.encoder, model.decoder
    encoder.conv1.weight, encoder.conv1.bias = matrix(width, mels, 3, scale=0.05), np.zeros(width, np.float32)
    encoder.conv2.weight, encoder.conv2.bias = matrix(width, width, 3, scale=0.05), np.zeros(width, np.float32)
    encoder.position_encodings.encodings = matrix(1500, width, scale=0.02)
    norm(encoder.layer_norm)
    for layer in encoder.layer:
        block(layer, crossed=False)
    decoder.embeddings.weight = matrix(vocabulary, width, scale=0.02)
    decoder.position_encodings.encodings = matrix(448, width, scale=0.02)
    decoder.projection.weight = decoder.embeddings.weight
    decoder.scale_embeddings = False
    norm(decoder.layer_norm)
    for layer in decoder.layer:
        block(layer, crossed=True)


if __name__ == "__main__":
    write_model(sys.argv[1], Path(sys.argv[2]))
