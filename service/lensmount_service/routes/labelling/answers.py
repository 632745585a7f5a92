"""Labels of images that an adapter answered, offered to the rollouts that the version which answered takes part in.

Both versions compute such an image in the background. `POST /feedback` and Label Studio's webhook say which version
answered, and an image of a pool says it if feedback brought it there. Labels of other images are no evidence: those
images may have been chosen because one version finds them difficult.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from lensmount_service.errors import NotFound, RequestInvalid, ServiceError, VersionDeleted
from lensmount_service.pools.rows import PoolLabel
from lensmount_service.rollout_spec import Rollout
from lensmount_service.rollouts.pairs import LabelledImage
from lensmount_service.routes.context import TenantContext
from lensmount_service.store.keys import is_public, key_of
from lensmount_service.store.references import Reference
from lensmount_service.store.registry import Version

log = structlog.get_logger(__name__)


def offer(context: TenantContext, version: Version, digest: str, data: bytes, label: str) -> bool:
    """`version` answered the image, whose bytes in the pool have this digest. Returns at once; False without room."""
    key, number = key_of(context.identity.tenant, version.name), version.version
    taken = [
        context.pairs.offer(LabelledImage(rollout, key, rollout.side_of(number), digest, data, label))
        for rollout in _rollouts(context, version)
    ]
    return all(taken)


def offer_again(context: TenantContext, pool: str, labels: Sequence[PoolLabel]) -> None:
    """Labels that were added to a pool, and are durable whatever happens here. Reads images, so it blocks."""
    if not context.keeper.running:
        return
    try:
        answers = context.training.pools.answers(pool, [label.digest for label in labels])
        for label in labels:
            version = _version(context, answers.get(label.digest, ""))
            if version is None or label.label not in version.manifest.labels or not _rollouts(context, version):
                continue
            data = context.training.pools.read(pool, label.digest)
            if not offer(context, version, label.digest, data, label.label):
                return  # the rest finds no room either
    except ServiceError as error:  # an image was deleted or is damaged, or the store cannot be read
        log.warning("labels are not compared", dataset=pool, reason=str(error))


def _rollouts(context: TenantContext, version: Version) -> list[Rollout]:
    """Those of the tenant's own that compare the version with another one."""
    if is_public(version.name):
        return []
    key, number = key_of(context.identity.tenant, version.name), version.version
    running = [each.rollout for each in context.keeper.running if each.name == key]
    found = {each.id: each for each in (*running, version.rollout) if each is not None}
    return [rollout for rollout in found.values() if number in (rollout.stable, rollout.candidate)]


def _version(context: TenantContext, answered: str) -> Version | None:
    """The version that `Answered.adapter` names, NAME@VERSION and its digest; None if it is no longer there."""
    name, _, digest = answered.partition(" ")
    try:
        version = context.catalog.version(Reference.parse(name))
    except (NotFound, VersionDeleted, RequestInvalid):
        return None
    return version if version.digest == digest else None
