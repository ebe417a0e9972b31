"""Prints the server's OpenAPI document, from which the types of the app are generated (`npm run types`)."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from whisper_farm.coordinator.answers.openapi import openapi_document
from whisper_farm.coordinator.coordinator import Coordinator
from whisper_farm.coordinator.dialects import dialects
from whisper_farm.coordinator.server import open_stores
from whisper_farm.settings import Policy, ServerSettings

with tempfile.TemporaryDirectory() as folder:
    settings = ServerSettings(data=Path(folder), database=None, blobs=None)
    with open_stores(settings) as (database, blobs):
        json.dump(openapi_document(dialects(Coordinator(settings, Policy(), database, blobs))), sys.stdout)
