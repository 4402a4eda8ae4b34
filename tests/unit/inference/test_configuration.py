"""The inference part of a task: types are known, mistakes are named, secrets are masked."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from sinfer.inference import JsonClient, PythonClient
from sinfer.inference.base import InferenceClient, InferenceConfig
from sinfer.inference.http import HttpConfig
from sinfer.inference.json_rest import JsonConfig
from sinfer.inference.openai.chat import OpenAiChatConfig
from sinfer.inference.python import PythonConfig
from sinfer.inference.tfserving import TfServingConfig
from sinfer.inference.v2.config import V2Config

_TASK = """
import sinfer

class Nowhere(sinfer.Sink):
    type = "nowhere"
    async def write(self, results): ...

task = sinfer.InferTaskConfig.model_validate({
    "id": "t",
    "source": {"stream": "S"},
    "window": {"type": "count", "count": 10, "max_wait": "1s"},
    "inference": {"type": "v2", "url": "http://m:8000", "model": "m", "version": 1},
    "sinks": [{"type": "nowhere"}],
})
print(type(task.inference).__name__, task.inference.version)
"""


def test_a_task_can_name_a_client_after_importing_sinfer_alone() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _TASK], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout == "V2Config 1\n"


def test_all_types_of_the_design_are_known() -> None:
    assert InferenceClient.registry.keys() >= {
        "v2",
        "tfserving",
        "torchserve",
        "openai_embeddings",
        "openai_chat",
        "json",
        "python",
    }


def test_a_misspelt_type_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'torchserve'"):
        InferenceClient.validator()({"type": "torchserv"})


@pytest.mark.parametrize("kind", sorted(InferenceClient.registry))
def test_every_setting_is_documented(kind: str) -> None:
    config = InferenceClient.registry[kind].Config
    undocumented = [n for n, field in config.model_fields.items() if not field.description]
    assert set(undocumented) <= {"type", "model", "method"}


@pytest.mark.parametrize("url", ["", "model:8000", "ftp://m/", "http://", "http://m:port", "/v2"])
def test_a_url_names_scheme_and_host(url: str) -> None:
    with pytest.raises(ValidationError, match="is no URL"):
        JsonConfig(url=url)


def test_a_v2_url_is_the_server_alone() -> None:
    assert V2Config(url="http://m:8000/v2/", model="m").url == "http://m:8000"
    with pytest.raises(ValidationError, match="give the server alone"):
        V2Config(url="http://m:8000/v2/models/m/infer", model="m")


def test_a_time_out_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="timeout"):
        TypeAdapter(InferenceConfig).validate_python({"type": "x", "timeout": "0s"})


def test_headers_are_masked_and_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODEL_TOKEN", "hunter2")
    config = OpenAiChatConfig.model_validate(
        {
            "model": "m",
            "headers": {"X-Token": "Bearer ${MODEL_TOKEN}"},
            "api_key": "${MODEL_TOKEN}",
        }
    )
    assert config.headers["X-Token"].get_secret_value() == "Bearer hunter2"
    assert "hunter2" not in f"{config!r} {config.model_dump_json()}"


@pytest.mark.parametrize(
    "headers", [{"A B": "x"}, {"": "x"}, {"A": "hunter2\n"}, {"A": "hunter2é"}, {"A": " hunter2"}]
)
def test_an_impossible_header_is_refused_without_its_value(headers: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        HttpConfig.model_validate({"type": "x", "url": "http://m", "headers": headers})
    assert "hunter2" not in caught.value.errors()[0]["msg"]


def test_a_version_and_a_label_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="either version or label"):
        TfServingConfig(url="http://m", model="m", version="1", label="stable")


@pytest.mark.parametrize("call", ["", "module", ":function", "module:", "a.b:c d", "a-b:c"])
def test_a_callable_is_written_as_module_and_function(call: str) -> None:
    with pytest.raises(ValidationError, match=r"package\.module:function"):
        PythonConfig(call=call)


def test_a_callable_given_in_code_is_shown_by_its_name() -> None:
    config = PythonConfig(call=len)
    assert '"call":"builtins:len"' in config.model_dump_json()
    assert InferenceClient.class_for(config) is PythonClient
    assert InferenceClient.class_for(JsonConfig(url="http://m")) is JsonClient
