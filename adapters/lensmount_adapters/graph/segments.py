"""Cut a backbone where exactly one tensor is alive: a trunk that no adapter changes, and the branch after it.

The module is traced once with torch.fx; the modules on timm's list of untraceable ones stay leaves. Everything before
the first adapted layer always computes the same, so training may cache its output and serving may share it.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from timm.models._features_fx import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn

from lensmount_adapters.errors import BackboneError


@dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """`branch(trunk(images))` is `module(images)`, bit for bit; both share their tensors with the module.

    Tensors keep their names: "blocks.4.0.conv_pw.weight" has this name in the branch as well. `trunk` is None if the
    very first layer is adapted. `at` names the layer whose output passes from one to the other.
    """

    trunk: fx.GraphModule | None
    branch: fx.GraphModule
    at: str = ""


class Segments:
    """`Segments(module).halves({"layer3.0.conv1.weight"})`. Raises BackboneError if the module cannot be traced."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        try:
            self._graph = _Tracer().trace(module, _defaults(module))
        except Exception as error:  # tracing runs the model's own Python code, which may raise anything
            raise BackboneError(f"the module cannot be traced: {type(error).__name__}: {str(error)[:200]}") from error
        _reshape_in_any_layout(self._graph)
        self._nodes = list(self._graph.nodes)
        self.cuts = _cuts(self._nodes)

    def __len__(self) -> int:
        return len(self.cuts) + 1

    def cut_before(self, tensors: Collection[str]) -> int | None:
        """The last cut before the first layer that owns one of the named tensors; None if no cut comes before it.

        Without names it is the last cut of all.
        """
        first = next((i for i, node in enumerate(self._nodes) if _owns(node, tensors)), len(self._nodes))
        return max((cut for cut in self.cuts if cut < first), default=None)

    def halves(self, tensors: Collection[str]) -> Halves:
        """The module cut as late as possible before the first layer that owns one of the named tensors.

        Without names the whole backbone is trunk.
        """
        return self.halves_at(self.cut_before(tensors))

    def halves_at(self, cut: int | None) -> Halves:
        """The module cut after the node with this number. With None, all of it is branch."""
        if cut is None:
            return Halves(None, self._assemble(self._graph))
        return Halves(self._front(cut), self._back(cut), self.name_of(cut))

    def name_of(self, cut: int) -> str:
        """The layer after which the module is cut, as `Halves.at` has it."""
        name: str = self._nodes[cut].name
        return name

    def part(self, start: int | None, end: int) -> fx.GraphModule:
        """From what leaves the cut `start`, or from the images, to what leaves the later cut `end`."""
        return self._front(end) if start is None else self._back(start, end)

    def shapes(self, images: Tensor) -> dict[int, torch.Size]:
        """The shape of what leaves each cut for these images."""
        found: dict[int, torch.Size] = {}

        class Recorder(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Any:
                value = super().run_node(n)
                if (cut := numbers.get(n.name)) is not None:
                    found[cut] = value.shape
                return value

        numbers = {self._nodes[cut].name: cut for cut in self.cuts}
        with torch.inference_mode():
            Recorder(self._assemble(self._graph)).run(images)
        return found

    def _front(self, cut: int) -> fx.GraphModule:
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        for node in self._nodes[: cut + 1]:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(copies[self._nodes[cut]])
        return self._assemble(graph)

    def _back(self, cut: int, end: int | None = None) -> fx.GraphModule:
        graph = fx.Graph()
        copies = {self._nodes[cut]: graph.placeholder("activations")}
        after = self._nodes[cut + 1 :] if end is None else self._nodes[cut + 1 : end + 1]
        for node in self._nodes[:cut]:
            if node.op == "get_attr" and not set(after).isdisjoint(node.users):  # both halves read it
                copies[node] = graph.node_copy(node, copies.__getitem__)
        for node in after:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        if end is not None:
            graph.output(copies[self._nodes[end]])
        return self._assemble(graph)

    def _assemble(self, graph: fx.Graph) -> fx.GraphModule:
        return fx.GraphModule(self._module, graph).eval()


class _Tracer(fx.Tracer):
    """Traces in one thread. torch.fx replaces `__call__` and `__getattr__` of all modules of the process meanwhile, so
    calls from other threads come here too and are passed on.
    """

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        self._thread = threading.get_ident()
        self._leaves = tuple(get_notrace_modules())

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self._leaves) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


_NO_LAYER = ("placeholder", "get_attr", "output")


def _defaults(module: nn.Module) -> dict[str, Any]:
    """The arguments of `forward` except the images, at their defaults: a mask that no caller passes is not an input."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    return {p.name: p.default for p in parameters[1:] if p.default is not inspect.Parameter.empty}


def _cuts(nodes: list[fx.Node]) -> list[int]:
    """The nodes after which only their own output is alive. Parameters and constants do not count."""
    position = {node: index for index, node in enumerate(nodes)}
    last_use = {node: max((position[user] for user in node.users), default=position[node]) for node in nodes}
    cuts: list[int] = []
    alive_until = -1  # the last use of everything computed before the node
    for index, node in enumerate(nodes):
        if node.op not in _NO_LAYER and alive_until <= index < len(nodes) - 1:
            cuts.append(index)
        if node.op != "get_attr":
            alive_until = max(alive_until, last_use[node])
    return cuts


def _reshape_in_any_layout(graph: fx.Graph) -> None:
    """Replace `x.view(sizes)` by `x.reshape(sizes)`, which gives the same values whatever the order of x in memory.

    A view needs the order in which the network itself computes x, and executors put the channels last at a cut.
    """
    for node in graph.nodes:
        if node.op == "call_method" and node.target == "view" and not isinstance(node.args[1], torch.dtype):
            node.target = "reshape"


def _owns(node: fx.Node, tensors: Iterable[str]) -> bool:
    if node.op not in ("call_module", "get_attr"):
        return False
    target = re.escape(str(node.target))
    return any(re.match(rf"{target}(\.|$)", name) for name in tensors)
