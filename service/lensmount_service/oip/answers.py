"""The answer to an inference, as REST carries it: JSON, and the bytes of tensors behind the JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lensmount_service.oip.requests import AskedOutput
from lensmount_service.oip.tensors import AnswerTensor, Parameter


@dataclass(frozen=True, slots=True, eq=False)
class InferAnswer:
    """What a model answers. `asked` says for each output whether it is sent as raw bytes."""

    model_name: str
    model_version: str
    id: str | None
    parameters: Mapping[str, Parameter]
    outputs: Sequence[AnswerTensor]
    asked: Sequence[AskedOutput]

    def encode(self) -> tuple[bytes, int | None]:
        """The body, and the length of its JSON; None if all of it is JSON."""
        described: list[dict[str, Any]] = []
        tail: list[bytes] = []
        for tensor, asked in zip(self.outputs, self.asked, strict=True):
            entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
            if asked.is_binary:
                tail.append(tensor.raw())
                entry["parameters"] = {"binary_data_size": len(tail[-1])}
            else:
                entry |= {"data": tensor.json()} | (
                    {} if tensor.is_text else {"parameters": {"content_type": "base64"}}
                )
            described.append(entry)
        document: dict[str, Any] = {"model_name": self.model_name, "model_version": self.model_version}
        document |= {} if self.id is None else {"id": self.id}
        document |= {"parameters": dict(self.parameters), "outputs": described}
        head = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        return b"".join([head, *tail]), len(head) if tail else None
