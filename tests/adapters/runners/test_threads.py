"""State that several threads touch stays consistent during uploads, deletions and compilation."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, admit, load_backbone
from lensmount_adapters.backbone import fingerprint
from lensmount_adapters.programs import openvino as openvino_module
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.programs.openvino import EXACT_AFTER, KEPT_EXACT, OpenVinoProgram
from lensmount_adapters.runners.costs import CostBook, LinearCost
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.runners.split_backbone import SplitBackbone

PATIENCE_S = 60.0  # the longest wait for another thread, in a test that fails
BLOCKED_S = 0.2  # a thread that has done nothing for this long is waiting for a lock


@pytest.fixture
def adapter_of(backbone: Backbone, draw_adapter: Callable[..., Any]) -> Callable[..., Adapter]:
    """`adapter_of(r"layer4.*", seed=1)`: a low-rank adapter of these modules."""

    def make(modules: str, seed: int = 0, rank: int = 4) -> Adapter:
        return admit(draw_adapter(backbone, modules=modules, seed=seed, rank=rank).dump(), backbone)

    return make


@pytest.fixture
def runner(backbone: Backbone) -> Iterator[SegmentRunner]:
    runner = SegmentRunner(backbone, choose_executor("eager", "float32", backbone.device, 1, None), max_batch=4)
    yield runner
    runner.close()


class Meanwhile:
    """`with meanwhile(work) as other: ...; other.go()` has another thread do the work now, and waits until it is done.

    `go` waits no longer than `at_most_s`: if the caller holds a lock that the work needs, the work is done afterwards.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._started = threading.Event()
        self._done = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)

    def go(self, at_most_s: float = PATIENCE_S) -> None:
        self._started.set()
        self._done.wait(at_most_s)

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def _run(self) -> None:
        self._started.wait(PATIENCE_S)
        try:
            self._work()
        except BaseException as error:  # the test raises it in its own thread
            self.error = error
        finally:
            self._done.set()


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[Meanwhile]:
    other = Meanwhile(work)
    other.thread.start()
    try:
        yield other
    finally:
        other.go()
        other.thread.join(PATIENCE_S)
    if other.error is not None:
        raise other.error


def test_an_integrity_check_continues_while_an_upload_makes_the_programs_of_a_new_cut(
    runner: SegmentRunner, adapter_of: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.prepare(adapter_of(r"layer4.*"))
    upload, hash_all = adapter_of(r"layer3.*"), SplitBackbone.changed

    with meanwhile(lambda: runner.prepare(upload)) as other:

        def hash_while_it_comes(split: SplitBackbone, between: Callable[[], None]) -> list[str]:
            other.go()
            return hash_all(split, between)

        monkeypatch.setattr(SplitBackbone, "changed", hash_while_it_comes)
        assert runner.changed() == []
        assert other.done  # so no lock is held while tensors are hashed
    assert runner.ready(upload)


def test_an_integrity_check_continues_while_an_upload_needs_another_pristine_clone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone, here, digest = load_backbone("resnet10t", "random:0"), threading.current_thread(), _digest_of()
    names = list(backbone.tensors)
    backbone.base(names[:2])
    hashed: list[Tensor] = []

    with meanwhile(lambda: backbone.base(names[2:4])) as other:

        def hash_while_it_comes(tensor: Tensor) -> str:
            if threading.current_thread() is here:
                hashed.append(tensor)
                if len(hashed) == len(names) + 1:  # the first clone: the live tensors come before them
                    other.go()
            return digest(tensor)

        monkeypatch.setattr(fingerprint, "tensor_digest", hash_while_it_comes)
        assert backbone.changed() == []
        assert other.done
    assert len(hashed) == len(names) + 2


def _digest_of() -> Callable[[Tensor], str]:
    return fingerprint.tensor_digest


class Interrupted(OrderedDict[str, Any]):
    """Lets another thread work at the worst moment: a key was added, and not yet moved to the end."""

    other: Meanwhile

    def move_to_end(self, key: str, last: bool = True) -> None:
        self.other.go(BLOCKED_S)
        super().move_to_end(key, last)


@pytest.mark.parametrize("prepared_before", [True, False])
def test_an_adapter_that_is_deleted_while_a_mixed_batch_is_computed_is_still_answered_correctly(
    runner: SegmentRunner, adapter_of: Callable[..., Adapter], prepared_before: bool
) -> None:
    one, two = (adapter_of(r"layer4.*", seed) for seed in (1, 2))
    for adapter in (one, two):
        runner.prepare(adapter)
    runner.settle()
    (split,) = runner.splits
    members = [(mixable, 1) for adapter in (one, two) if (mixable := split.mixable(adapter)) is not None]
    activations = split.activations(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    expected = split.mixed(activations, members)
    assert (expected[0] - expected[1]).abs().max() > 1e-2

    assert split.mixed_program is not None
    prepared = Interrupted(split.mixed_program.prepared if prepared_before else {})
    program = replace(split.mixed_program, prepared=prepared)
    with meanwhile(lambda: program.forget(one.digest)) as other:
        prepared.other = other
        factors = program.mixed.pack([program.factors_of(member) for member, _ in members])
        features = program.run(activations, [0, 1], factors)

    torch.testing.assert_close(features, expected)
    assert len(members) == 2


class AtTheGate(CostBook):
    """Measures nothing; a mixed line that is asked for in the background is given once the gate is open."""

    def __init__(self, mixed: LinearCost) -> None:
        super().__init__()
        self.mixed = mixed
        self.arrived, self.gate = threading.Event(), threading.Event()
        self.background: threading.Thread | None = None

    def line(self, name: str, measure: Callable[[], LinearCost]) -> LinearCost:
        if threading.current_thread() is not self.background:
            return LinearCost(1.0, 1.0)
        self.arrived.set()
        assert self.gate.wait(PATIENCE_S)
        return self.mixed


def test_what_a_program_cost_is_not_lost_while_a_new_one_is_measured(
    backbone: Backbone, adapter_of: Callable[..., Adapter]
) -> None:
    """The engine moves the line of the old program just when the background thread sets that of the new one."""
    book = AtTheGate(LinearCost(0.25, 0.5))
    executor = choose_executor("eager", "float32", backbone.device, 1, None)
    runner = SegmentRunner(backbone, executor, max_batch=4, book=book)
    runner.prepare(adapter_of(r"layer4.*"))
    runner.settle()
    (split,) = runner.splits
    assert split.mixable(adapter_of(r"layer4.*", rank=8)) is not None
    assert split.must_grow()
    book.background = growing = threading.Thread(target=split.grow)
    growing.start()
    assert book.arrived.wait(PATIENCE_S)  # the new program is made and its line is about to be set

    class Old(LinearCost):
        def towards(self, images: int, seconds: float, share: float) -> LinearCost:
            book.gate.set()
            growing.join(BLOCKED_S)
            return super().towards(images, seconds, share)

    split.costs = replace(split.costs, mixed=Old(1.0, 1.0))
    split.learn("mixed", 4, 5.0)
    growing.join(PATIENCE_S)
    runner.close()

    assert split.costs.mixed == book.mixed


def test_a_line_is_returned_even_if_the_book_is_emptied_while_it_is_measured() -> None:
    book = CostBook()

    def measure() -> LinearCost:
        book.forget()
        return LinearCost(0.25, 0.5)

    assert book.line("branch hot", measure) == LinearCost(0.25, 0.5)


def test_a_line_is_returned_even_if_the_book_is_emptied_while_it_is_looked_up() -> None:
    book = CostBook()
    book.line("branch merged", lambda: LinearCost(0.125, 0.25))

    with meanwhile(book.forget) as other:

        class Name(str):
            """Another thread empties the book whenever this name is compared with the names of the lines."""

            __slots__ = ()
            __hash__ = str.__hash__

            def __eq__(self, name: object) -> bool:
                other.go(BLOCKED_S)
                return super().__eq__(name)

        assert book.line(Name("branch merged"), lambda: LinearCost(0.0, 0.0)) == LinearCost(0.125, 0.25)
    assert book.lines == {}


def test_lines_that_are_being_read_do_not_change_while_others_are_measured() -> None:
    book = CostBook()
    book.line("one", lambda: LinearCost(0.25, 0.5))

    lines = book.lines
    for _ in lines:
        book.line("two", lambda: LinearCost(0.125, 0.25))

    assert set(lines) == {"one"}
    assert set(book.lines) == {"one", "two"}


def test_two_frequent_shapes_at_once_get_no_more_exact_programs_than_are_kept() -> None:
    """The second shape reaches its count while the first one's program is still being compiled."""
    compiled, seen = threading.Event(), list[threading.Thread]()

    class Executor:
        def request(self, model: Any, shapes: Any, *, samples: bool = False) -> Any:
            if samples and threading.current_thread() is not here:
                seen.append(threading.current_thread())
                assert compiled.wait(PATIENCE_S)
            return lambda inputs: inputs[0]

    here, before = threading.current_thread(), set(threading.enumerate())
    program = OpenVinoProgram(Executor(), None, 1, 0)  # type: ignore[arg-type]  # only `request` is asked of it
    for images in (2, 3):
        for _ in range(EXACT_AFTER):
            program(torch.zeros(images, 4))
    compiled.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_S)

    assert len(seen) == KEPT_EXACT
    assert len(program.exact) == KEPT_EXACT


def test_two_threads_never_clone_a_model_at_the_same_time() -> None:
    """A new image size on the engine's thread, the adapter's own program and the exact one in the background."""
    pytest.importorskip("openvino")
    executor = openvino_module.OpenVino("cpu")
    overlaps: list[str] = []
    at_it = threading.Lock()

    class Model:
        """Records if two threads clone it at the same time; each clone gives the other thread a chance."""

        def clone(self) -> Any:
            if not at_it.acquire(blocking=False):
                overlaps.append(threading.current_thread().name)
                return real.clone()
            try:
                other.go(BLOCKED_S)
                return real.clone()
            finally:
                at_it.release()

    compiled = executor.compile(torch.fx.symbolic_trace(_double), (torch.zeros(1, 3),), (torch.ones(3),), "test")
    real = compiled.bind((torch.ones(3),)).model
    model = Model()
    with meanwhile(lambda: executor.with_constants(model, {}, frozenset())) as other:
        executor.request(model, [(1, 3)])

    assert overlaps == []


def _double(x: Tensor, weight: Tensor) -> Tensor:
    return x * weight * 2
