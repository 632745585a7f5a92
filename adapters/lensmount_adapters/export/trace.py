"""Trace an adapter's whole network, and check that what was made of it computes the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.errors import ExportError
from lensmount_adapters.export.network import Network
from lensmount_adapters.programs.tracing import converting

TOLERANCE = 1e-4  # of the largest logit


def example_of(adapter: Adapter, count: int = 2) -> Tensor:
    """Random inputs of the adapter's size. A network is traced with two, for one might be taken for a constant."""
    draw = torch.Generator().manual_seed(0)
    return torch.randn(count, *adapter.manifest.preprocessing.input_shape, generator=draw)


def traced(network: Network, example: Tensor, to: str) -> Any:
    """The traced network, a ScriptModule from inputs to logits and scores. Its batch is free, its image size fixed.

    Raises ExportError if torch cannot trace the network.
    """
    with converting():
        try:
            return torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]  # torch's
        except Exception as error:  # tracing runs the network's own code, which may raise anything
            raise not_convertible(to, error) from error


def check_same(to: str, network: Network, images: Tensor, logits: Tensor) -> None:
    """Raise ExportError if the logits of what was written are not those of the network for the same images."""
    with torch.no_grad():
        expected: Tensor = network(images)[0]
    difference = float((logits - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{to}: found logits that differ by {difference:.1e} of the largest after the conversion, expected at most "
            f"{TOLERANCE:g}. Fix: export to another format, such as timm"
        )


def not_convertible(to: str, error: Exception) -> ExportError:
    """What a converter says about a network that it cannot convert, in one line."""
    why = " ".join(str(error).split())[:300]
    return ExportError(f"{to}: found a network that cannot be converted ({why}). Fix: export to another format")


def not_installed(to: str, error: ImportError) -> ExportError:
    """The refusal of a format whose library is missing."""
    return ExportError(
        f"{to}: found no {error.name}, expected it for this format. Fix: pip install 'lensmount[{to}]'",
        code="export_unavailable",
    )
