"""The manifests for Kubernetes hold against strict schemas, and say what the program understands. No cluster ran."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import click
import pytest
import yaml
from jsonschema import Draft202012Validator

from whisper_farm.cli.main import menu
from whisper_farm.settings import ServerSettings, WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
SCHEMAS = json.loads((ROOT / "tests" / "fleet" / "data" / "keda-strict-schemas.json").read_text(encoding="utf-8"))
DOCUMENTS = [
    pytest.param(document, id=f"{file.stem} {document['kind']}")
    for file in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]


def found(kind: str) -> dict[str, Any]:
    (one,) = [each.values[0] for each in DOCUMENTS if each.values[0]["kind"] == kind]
    assert isinstance(one, dict)
    return one


@pytest.mark.parametrize("kind", ["ScaledJob", "TriggerAuthentication"])
def test_kedas_objects_hold_against_its_strict_schema(kind: str) -> None:
    problems = [error.message for error in Draft202012Validator(SCHEMAS[kind]).iter_errors(found(kind))]
    assert problems == []


def test_the_schema_refuses_a_misspelt_field() -> None:
    wrong = json.loads(json.dumps(found("ScaledJob")))
    wrong["spec"]["maxReplicasCount"] = 3
    assert list(Draft202012Validator(SCHEMAS["ScaledJob"]).iter_errors(wrong))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_containers_run_commands_flags_and_settings_that_there_are(document: dict[str, Any]) -> None:
    known = {
        f"{settings.model_config['env_prefix']}{name}".upper()
        for settings in (ServerSettings, WorkerSettings)
        for name in settings.model_fields
    }
    for container in containers(document):
        command = menu.get_command(click.Context(menu), container["args"][0])
        assert command is not None
        flags = {name for option in command.params for name in option.opts}
        assert [word for word in container["args"][1:] if word.startswith("-") and word not in flags] == []
        assert {one["name"] for one in container.get("env", [])} <= known


def containers(document: dict[str, Any]) -> list[dict[str, Any]]:
    spec = document["spec"]
    template = spec.get("template") or spec.get("jobTargetRef", {}).get("template")
    return template["spec"]["containers"] if template else []


def test_a_worker_has_the_time_that_it_is_promised_and_ends_by_itself() -> None:
    job = found("ScaledJob")["spec"]
    template = job["jobTargetRef"]["template"]["spec"]
    words = template["containers"][0]["args"]
    grace = int(words[words.index("--grace") + 1])
    assert template["terminationGracePeriodSeconds"] >= grace + 15
    assert "--idle" in words
    assert job["jobTargetRef"]["backoffLimit"] == 0
    assert template["restartPolicy"] == "Never"
    assert job["minReplicaCount"] == 0, "it would be added to what the farm asks for"


def test_the_scaler_asks_what_the_farm_answers() -> None:
    job = found("ScaledJob")["spec"]
    (trigger,) = job["triggers"]
    address = urlsplit(trigger["metadata"]["url"])
    query = {name: values[0] for name, values in parse_qs(address.query).items()}
    assert address.path == "/api/scaling"
    assert query.keys() <= {"engine", "model", "slots", "maximum", "target_drain_seconds"}
    assert int(query["maximum"]) == job["maxReplicaCount"]
    words = job["jobTargetRef"]["template"]["spec"]["containers"][0]["args"]
    assert (query["engine"], query["model"]) == (words[words.index("--engine") + 1], words[words.index("--model") + 1])
    assert trigger["metadata"]["valueLocation"] == "wanted"
