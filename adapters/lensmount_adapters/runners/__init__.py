"""From a batch of images, each with its adapter, to scores: hot, merged and mixed.

>>> from types import SimpleNamespace
>>> import torch
>>> from lensmount_adapters import load_backbone
>>> from lensmount_adapters.programs.choose import choose_executor
>>> from lensmount_adapters.runners.segment_runner import SegmentRunner
>>> backbone = load_backbone("resnet10t", "random:0")
>>> adapters = draw_adapters(backbone, 2)                           # in a server: `admit(file, backbone)`
>>> runner = SegmentRunner(backbone, choose_executor("eager", "float32", "cpu", 1, None))
>>> batch = [SimpleNamespace(adapter=adapter, image=torch.zeros(3, 64, 64)) for adapter in adapters]
>>> [scores.shape for scores in runner.scores(batch).scores]
[torch.Size([2]), torch.Size([2])]
>>> runner.changed()                                                # the backbone is bit for bit what it was
[]
>>> runner.close()

runner.py is the interface. segment_runner.py computes batches with split_backbone.py (one cut: trunk, branch, costs;
splits.py has one for each cut and precision of the trunk), mounting.py or on a GPU graph_mounting.py (one adapter
merged into the branch) and hot_programs.py (programs with weights, in hot_cache.py). mixed.py makes the branch for many
adapters. fused.py and end_to_end.py are shortcuts behind the Protocol of shortcut.py. kept_trunk.py computes another
adapter for images that were answered already. merged.py serves backbones that cannot be traced.

Which thread touches what. The engine's thread calls `scores` and `changed`; request threads call `ready`, `prepare`,
`prefetch`, `pin`, `forget` and `tier`; one background thread makes programs. No lock is held during an integrity check
or while a batch is computed. "Replaced" means that a new object takes the place of the old one, which nobody writes any
more, so a reader needs no lock: it keeps the one that it got.

| attribute | threads | lock or owner |
|---|---|---|
| `Splits._splits`, `._usable` | all | `_cutting` to write; replaced |
| `._ready` | all | `_noting` to write, the first entry stays; a look-up is one dict operation |
| `._in_place` and its backbone | engine | the engine's thread |
| `._watch`, `Stopwatch.stages` | engine | the engine's thread, for one batch |
| `.book` (`CostBook`) | all | its own `_lock`, not held while measuring; `lines` is a copy |
| `HotPrograms._making`, `._failed` | all | its `_lock`, inside which the lock of the cache may be taken |
| `.cache` (`HotCache`) | all | its own `_lock` |
| `._derived` | all | written while the runner is made, then only read |
| `SplitBackbone.costs` | engine, background | `_lock` from reading to writing; replaced |
| `._wanted` | all | `_lock` |
| `._mixed` | all | `_lock` to write; replaced |
| `MixedProgram.prepared` | all | its own `lock`, not held while factors are prepared |
| `SplitBackbone._mounted`, `.pack_s`, `Mounting` | engine | the engine's thread |
| `._known_shapes`, `._shapes` | background | the background thread |
| `.hot_nbytes` | engine reads, background writes | the background thread; one number |
| `.trunk`, `._branch`, `._functional`, `._folded`, `._digests` | all | set when made, then only read |
| `.pooling`, `.space`, `.trunk_identity` | all | set when made, then only read |
| `.pooling_program` | background | the background thread |
| `FusedGroups._branches` | engine writes, `forget` reads | the engine's thread; replaced |
| `FusedBranch._recent`, `._batches_without_newcomer` | all | its own `_lock` |
| `.group`, `.cost`, `._fused_timings`, `._declined_since_measured` | engine | the engine's thread |
| `FusedGroup._slots` | engine | the engine's thread |
| `MapPrograms._branches` | all | `_making` to write; replaced |
| `MapPrograms._found` | requests | `_making` |
| `MapBranch.nbytes` | requests | one number, a guess for the next program |
| `Batch`, `Offer` | engine | the engine's thread, for one batch |
| `EndToEndPrograms._nbytes` | engine reads, background writes | the background thread; one dict operation |
| `Kept` | engine makes, one other thread reads | never written |
| `Branches` | the thread that made it | that thread; its programs are its own |
| `Clones._clones` (backbone/pristine.py) | all | its own `_lock`, held until a new clone is checked; `kept` is a copy |
| `Unwritten._checked` | all | its own `_lock`, not held while checking |
| `Backbone._refusals` | all | entries are only added, and do not depend on the thread that adds them |
| `Backbone.tensors` | all read, engine writes | the engine's thread, in `MergedRunner` alone |
| `ExactSwapper._mounted` | engine, `tier` reads it once | the engine's thread; replaced |
| `OpenVinoProgram.requests`, `.seen` | the caller's | the thread that calls the program; the engine's once it is hot |
| `.exact` | the caller's, `lensmount-exact` | the caller reserves an entry, the other thread fills it |
| OpenVINO's models | all | `OpenVino._cloning` to clone; afterwards each thread has its own clone |
| `CudaGraphCompiled._captured`, `._loaded`, `.buffers` | the caller's | the thread that calls the program |
| CUDA's one capture | all | `CAPTURING` (programs/capturing.py), from warm-up to end |
| warning filters, `os.environ` of the process | all | `converting` (tracing), `inductor_cache.in_cache` |
| kernels of delta/addmm.py | all | the lock of `KernelCache` |
"""
