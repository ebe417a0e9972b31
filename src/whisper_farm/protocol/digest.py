"""The digest that makes a completion idempotent."""

from __future__ import annotations

import hashlib

from whisper_farm.protocol.worker import ChunkResult, TranscribeResult


def digest_of(result: ChunkResult | TranscribeResult) -> str:
    """SHA-256 of the result's canonical JSON, as lower-case hexadecimal."""
    return hashlib.sha256(result.model_dump_json().encode()).hexdigest()
