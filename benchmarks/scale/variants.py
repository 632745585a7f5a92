"""Many adapters for a load test: copies of a shipped one, each with its own name, noise and digest."""

from __future__ import annotations

from pathlib import Path

import torch

from lensmount_adapters.adapter.file import dump_adapter, parse_adapter

ZOO = Path(__file__).parents[2] / "adapters" / "zoo"
NOISE = 1e-3  # relative: the answers hardly move, and every factor differs


def variants(count: int, of: str = "histology") -> dict[str, bytes]:
    """Adapter files by name, the same ones each time. They have no trust block, which would be tied to the tensors."""
    shipped = parse_adapter((ZOO / f"{of}.safetensors").read_bytes())
    found: dict[str, bytes] = {}
    for number in range(count):
        draw = torch.Generator().manual_seed(number)
        tensors = {
            name: tensor.float() * (1 + NOISE * torch.randn(tensor.shape, generator=draw))
            for name, tensor in shipped.tensors.items()
            if not name.startswith("trust.")
        }
        manifest = shipped.manifest.model_copy(update={"name": f"{of}-{number}", "trust": None, "training": {}})
        found[manifest.name] = dump_adapter(manifest, tensors)
    return found
