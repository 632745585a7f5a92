"""Our description of the messages against that of Triton's client: the same names, numbers, types and choices."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("grpc", reason='needs gRPC: pip install "lensmount[grpc]"')
pytest.importorskip("tritonclient.grpc", reason='needs tritonclient: pip install "lensmount[dev]"')
from tritonclient.grpc import model_config_pb2, service_pb2

from lensmount_service.oip.messages import SERVICE, message, pool, read_proto
from lensmount_service.oip.servicer import NEEDS


def described(kind: Any) -> dict[str, Any]:
    """The fields of a message, and of those inside it, by name."""
    return {field.name: about(field) for field in kind.fields} | {
        nested.name: described(nested) for nested in kind.nested_types
    }


def about(field: Any) -> tuple[object, ...]:
    inner = field.message_type or field.enum_type
    choice = field.containing_oneof
    return field.number, field.type, field.is_repeated, inner and inner.full_name, choice and choice.name


def theirs(name: str) -> Any:
    module = service_pb2 if name in service_pb2.DESCRIPTOR.message_types_by_name else model_config_pb2
    return module.DESCRIPTOR.message_types_by_name[name]


def names() -> list[str]:
    return list(pool().FindFileByName("open_inference.proto").message_types_by_name)


def test_every_message_is_a_part_of_triton_s() -> None:
    assert len(names()) > 30
    for name in names():
        ours, other = described(message(name).DESCRIPTOR), described(theirs(name))
        assert ours.items() <= other.items() or name == "ModelConfig", name
        for field, stated in ours.items():
            assert other[field] == stated, f"{name}.{field}"


def test_the_values_of_the_types_are_those_of_triton() -> None:
    ours = pool().FindEnumTypeByName("inference.DataType").values_by_name
    other = model_config_pb2.DataType.DESCRIPTOR.values_by_name
    assert {name: value.number for name, value in ours.items()}.items() <= {
        name: value.number for name, value in other.items()
    }.items()


def test_every_method_has_the_messages_that_triton_s_has_and_what_its_caller_needs() -> None:
    other = {
        method.name: (method.input_type.full_name, method.output_type.full_name)
        for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    }
    methods = pool().FindServiceByName(SERVICE).methods
    assert {method.name for method in methods} == NEEDS.keys()
    for method in methods:
        assert other[method.name] == (method.input_type.full_name, method.output_type.full_name)
        assert method.client_streaming == method.server_streaming == (method.name == "ModelStreamInfer")


def test_a_message_survives_the_way_through_triton_s_class() -> None:
    made = message("ModelInferRequest")(model_name="cells", id="7", raw_input_contents=[b"abc"])
    made.parameters["timeout"].int64_param = 5
    made.inputs.add(name="image", datatype="BYTES", shape=[1])
    other = service_pb2.ModelInferRequest.FromString(made.SerializeToString())
    assert (other.model_name, other.parameters["timeout"].int64_param, other.inputs[0].shape[0]) == ("cells", 5, 1)
    assert message("ModelInferRequest").FromString(other.SerializeToString()) == made


def test_a_file_is_read_with_what_is_inside_its_messages() -> None:
    file = read_proto(
        'syntax = "proto3"; message A { message B { bool b = 2; } repeated B bs = 3; map<string, B> m = 4; }'
    )
    (outer,) = file.message_type
    assert [(field.name, field.number, field.type_name) for field in outer.field] == [
        ("bs", 3, ".inference.A.B"),
        ("m", 4, ".inference.A.MEntry"),
    ]
    assert [nested.name for nested in outer.nested_type] == ["B", "MEntry"]
