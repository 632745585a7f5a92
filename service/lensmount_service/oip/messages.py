"""The messages of the gRPC service, made of `open_inference.proto` when a server starts.

So nothing that is generated is committed. The messages are in a pool of their own, because a program may have another
description of the same names, such as that of a client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

FILE = "open_inference.proto"
PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_TOKEN = re.compile(r"//[^\n]*|\s+|(\w+|\"[^\"]*\"|[{}()<>=;,])")


@cache
def pool() -> descriptor_pool.DescriptorPool:
    made = descriptor_pool.DescriptorPool()
    made.Add(read_proto(files(__package__).joinpath(FILE).read_text()))
    return made


@cache
def message(name: str) -> Any:
    """The class of a message: `message("ModelInferRequest")(model_name="malaria")`."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


def read_proto(text: str) -> FileDescriptorProto:
    """The description of a proto3 file. It reads what the file of this folder has, and no options or imports."""
    tokens = (found[1] for found in _TOKEN.finditer(text) if found[1])
    file = FileDescriptorProto(name=FILE, package=PACKAGE, syntax="proto3")
    for token in tokens:
        if token == "message":
            _read_message(tokens, file.message_type.add())
        elif token == "enum":
            _read_enum(tokens, file.enum_type.add())
        elif token == "service":
            _read_service(tokens, file.service.add())
        else:  # syntax or package
            _skip_to(tokens, ";")
    enums = {enum.name for enum in file.enum_type}
    for described in file.message_type:
        _resolve(described, f".{PACKAGE}.{described.name}", enums)
    return file


def _read_message(tokens: Iterator[str], made: DescriptorProto) -> None:
    made.name = _name_before(tokens, "{")
    choice: int | None = None
    for token in tokens:
        if token == "message":
            _read_message(tokens, made.nested_type.add())
        elif token == "oneof":
            choice = len(made.oneof_decl)
            made.oneof_decl.add(name=_name_before(tokens, "{"))
        elif token != "}":
            _read_field(token, tokens, made, choice)
        elif choice is None:
            return
        else:
            choice = None


def _read_field(token: str, tokens: Iterator[str], made: DescriptorProto, choice: int | None) -> None:
    field = FieldDescriptorProto(label=FieldDescriptorProto.LABEL_OPTIONAL)
    if token == "map":
        key, value = list(_until(tokens, ">"))[1::2]
        field.label = FieldDescriptorProto.LABEL_REPEATED
        name = next(tokens)
        entry = made.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        for number, (part, kind) in enumerate((("key", key), ("value", value)), 1):
            entry.field.add(name=part, number=number, type_name=kind, label=FieldDescriptorProto.LABEL_OPTIONAL)
        field.name, field.type_name = name, entry.name
    else:
        if token == "repeated":
            field.label, token = FieldDescriptorProto.LABEL_REPEATED, next(tokens)
        field.type_name, field.name = token, next(tokens)
    field.number = int(list(_until(tokens, ";"))[1])
    if choice is not None:
        field.oneof_index = choice
    made.field.append(field)


def _read_enum(tokens: Iterator[str], made: descriptor_pb2.EnumDescriptorProto) -> None:
    made.name = _name_before(tokens, "{")
    words = list(_until(tokens, "}"))
    for name, _, number, _ in zip(*(iter(words),) * 4, strict=True):
        made.value.add(name=name, number=int(number))


def _read_service(tokens: Iterator[str], made: descriptor_pb2.ServiceDescriptorProto) -> None:
    made.name = _name_before(tokens, "{")
    for token in tokens:
        if token == "}":
            return
        name = next(tokens)
        asked, answered = (list(_until(tokens, ")")) for _ in range(2))
        made.method.add(
            name=name,
            input_type=f".{PACKAGE}.{asked[-1]}",
            output_type=f".{PACKAGE}.{answered[-1]}",
            client_streaming="stream" in asked,
            server_streaming="stream" in answered,
        )
        _skip_to(tokens, "}")


def _resolve(described: DescriptorProto, path: str, enums: set[str]) -> None:
    """Put the kind of each field in place of the word that the file has."""
    nested = {each.name for each in described.nested_type}
    for field in described.field:
        word = field.type_name
        scalar = f"TYPE_{word.upper()}"
        if scalar in FieldDescriptorProto.Type.DESCRIPTOR.values_by_name:
            field.type = FieldDescriptorProto.Type.Value(scalar)
            field.ClearField("type_name")
        else:
            field.type = FieldDescriptorProto.TYPE_ENUM if word in enums else FieldDescriptorProto.TYPE_MESSAGE
            field.type_name = f"{path}.{word}" if word in nested else f".{PACKAGE}.{word}"
    for inner in described.nested_type:
        _resolve(inner, f"{path}.{inner.name}", enums)


def _name_before(tokens: Iterator[str], end: str) -> str:
    (name,) = _until(tokens, end)
    return name


def _until(tokens: Iterator[str], end: str) -> Iterator[str]:
    for token in tokens:
        if token == end:
            return
        yield token


def _skip_to(tokens: Iterator[str], end: str) -> None:
    for _ in _until(tokens, end):
        pass
