"""What the report of a training run shows in addition to the file: promises kept, heat maps, the version before."""

from __future__ import annotations

from pathlib import Path

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import LensmountError
from lensmount_adapters.explain.heat_maps import heat_maps
from lensmount_adapters.metrics.scored import decisive_part
from lensmount_adapters.report.context import ReportContext
from lensmount_adapters.training.before import version_before
from lensmount_adapters.training.result import TrainingResult


def context_of(result: TrainingResult, backbone: Backbone, compare: Path | None = None) -> ReportContext:
    """The context for `write_run_report`. `backbone` is that of the run, `compare` an earlier adapter file.

    If that cannot be compared, a note says why: the trained file and its report are there all the same.
    """
    part, before, notes = decisive_part(result.scored), None, result.notes
    if compare is not None and part is not None:
        try:
            before = version_before(compare, part, result.scored[part], result.manifest, result.folder, backbone)
        except (LensmountError, OSError) as error:
            notes = (*notes, f"Not compared with {compare.name}: {error}")
    adapter = admit(result.path.read_bytes(), backbone)
    heat_map = heat_maps(adapter, backbone, result.folder.read, result.folder.limits)
    return ReportContext(notes=notes, before=before, heat_map=heat_map)
