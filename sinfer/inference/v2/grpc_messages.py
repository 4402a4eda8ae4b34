"""The messages of the Open Inference Protocol over gRPC, as far as sinfer sends and reads them.

Names and numbers are the protocol's (KServe's ``open_inference_grpc.proto``), with ``double_param``
and ``uint64_param`` as Triton adds them. The classes are made here and not by ``protoc``: generated
modules work with some versions of protobuf alone, and two libraries that bring messages of one name
into the common pool, as this one and a server's own client would, do not get along in a process.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

SERVICE = "inference.GRPCInferenceService"

_PACKAGE = "inference"
_PARAMETERS = "map<InferParameter>"

_TENSOR = [
    (1, "name", "string"),
    (2, "datatype", "string"),
    (3, "shape", "repeated int64"),
    (4, "parameters", _PARAMETERS),
    (5, "contents", "InferTensorContents"),
]
_METADATA = [(1, "name", "string"), (2, "datatype", "string"), (3, "shape", "repeated int64")]
_MODEL = [(1, "name", "string"), (2, "version", "string")]
_WHICH = [
    (1, "model_name", "string"),
    (2, "model_version", "string"),
    (3, "id", "string"),
    (4, "parameters", _PARAMETERS),
]

_MESSAGES = {
    "InferParameter": [
        (1, "bool_param", "one of bool"),
        (2, "int64_param", "one of int64"),
        (3, "string_param", "one of string"),
        (4, "double_param", "one of double"),
        (5, "uint64_param", "one of uint64"),
    ],
    "InferTensorContents": [
        (1, "bool_contents", "repeated bool"),
        (2, "int_contents", "repeated int32"),
        (3, "int64_contents", "repeated int64"),
        (4, "uint_contents", "repeated uint32"),
        (5, "uint64_contents", "repeated uint64"),
        (6, "fp32_contents", "repeated float"),
        (7, "fp64_contents", "repeated double"),
        (8, "bytes_contents", "repeated bytes"),
    ],
    "InferInputTensor": _TENSOR,
    "InferOutputTensor": _TENSOR,
    "InferRequestedOutputTensor": [(1, "name", "string"), (2, "parameters", _PARAMETERS)],
    "ModelInferRequest": [
        *_WHICH,
        (5, "inputs", "repeated InferInputTensor"),
        (6, "outputs", "repeated InferRequestedOutputTensor"),
        (7, "raw_input_contents", "repeated bytes"),
    ],
    "ModelInferResponse": [
        *_WHICH,
        (5, "outputs", "repeated InferOutputTensor"),
        (6, "raw_output_contents", "repeated bytes"),
    ],
    "ModelReadyRequest": _MODEL,
    "ModelReadyResponse": [(1, "ready", "bool")],
    "ModelMetadataRequest": _MODEL,
    "TensorMetadata": _METADATA,
    "ModelMetadataResponse": [
        (1, "name", "string"),
        (2, "versions", "repeated string"),
        (3, "platform", "string"),
        (4, "inputs", "repeated TensorMetadata"),
        (5, "outputs", "repeated TensorMetadata"),
    ],
}
"""Messages that the protocol nests in others stand beside them: what is sent is the same."""


def _add_field(message: DescriptorProto, number: int, name: str, kind: str) -> None:
    field = message.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
    if kind.startswith("map<"):
        entry = message.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        _add_field(entry, 1, "key", "string")
        _add_field(entry, 2, "value", kind[4:-1])
        kind = f"repeated {message.name}.{entry.name}"
    elif kind.startswith("one of "):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
        kind = kind.removeprefix("one of ")
    if kind.startswith("repeated "):
        field.label = FieldDescriptorProto.LABEL_REPEATED
        kind = kind.removeprefix("repeated ")
    if kind[0].isupper():
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


def _classes() -> dict[str, Any]:
    file = FileDescriptorProto(name="open_inference.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field, kind in fields:
            _add_field(message, number, field, kind)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_made = _classes()
ModelInferRequest = _made["ModelInferRequest"]
ModelInferResponse = _made["ModelInferResponse"]
ModelReadyRequest = _made["ModelReadyRequest"]
ModelReadyResponse = _made["ModelReadyResponse"]
ModelMetadataRequest = _made["ModelMetadataRequest"]
ModelMetadataResponse = _made["ModelMetadataResponse"]
