"""Warnings on data that cannot mean what it says: blank or nearly black images, classes that differ by their files
alone, and names of patients or slides that a split would divide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from lensmount_adapters.data.dataset import ImageFolder, join_duplicates
from lensmount_adapters.data.image_facts import ImageFacts
from lensmount_adapters.data.metadata_probe import Tell, telling_traits
from lensmount_adapters.data.split import Split
from lensmount_adapters.data.split_advice import MAX_SPLIT_IMAGES, TEST, VALIDATION, as_options, fractions_that_work
from lensmount_adapters.groups.group_names import FEWEST_GROUPS, ProposedGroups, leak_between, propose_groups

_SHOWN = 3
_DARK = {16: 64}  # bits: at least this is the brightest of 255 levels, or the image has at most 14 of its 16 bits
_DARK_AT_ALL = 16  # of 255 levels: 12-bit values in a 16-bit file reach this


def warnings_about_images(images: Sequence[ImageFacts]) -> list[tuple[str, str]]:
    """Return (code, message) of each warning: `blank_images`, `dark_images`, `class_from_metadata`."""
    return [*_blank(images), *_dark(images), *_told_by_files(images)]


def warnings_about_groups(folder: ImageFolder, split: Split | None) -> list[tuple[str, str]]:
    """Return `groups_suspected` if names look like those of patients or slides, with the groups that `split` divides.

    There is no warning if groups are stated, or if an expression has found them. `split` is None if there is none yet.
    """
    paths = [sample.path for sample in folder.samples]
    if {sample.group for sample in folder.samples} - set(paths):
        return []
    proposed = propose_groups(paths, [folder.classes[sample.label] for sample in folder.samples])
    if proposed is None:
        return []
    parts: list[str | None] = [None] * len(paths)
    for part, indices in split.parts().items() if split is not None else ():
        for index in indices:
            parts[index] = part
    divided, tested = leak_between(proposed.groups, parts)
    if split is not None and not divided and not proposed.few:
        return []
    examples = " and ".join(repr(name[:80]) for name in proposed.examples)
    leak = (
        f" The split divides them: {divided} of the {tested} groups of its held-out part also have training images, so "
        "the figures would be too good."
        if divided
        else ""
    )
    found = (
        f"the names look like those of patients, slides or sources: {proposed.count} groups in {len(paths)} images, "
        f"such as {examples}."
    )
    if proposed.few:
        return [("groups_suspected", f"{found} {_one_group_is_a_class(proposed)}")]
    return [
        (
            "groups_suspected",
            f"{found}{leak} Fix if images of one group belong together: train with group_regex "
            f"{proposed.regex} (--group-regex '{proposed.regex}'){_fractions(folder, proposed)}",
        )
    ]


def _one_group_is_a_class(proposed: ProposedGroups) -> str:
    names = ", ".join(repr(label[:80]) for label in proposed.few[:_SHOWN])
    return (
        f"The images of {names} are of fewer than {FEWEST_GROUPS} groups, so training may learn the patient or the "
        "slide instead of the class, and no split can show it. Fix: add images of other groups"
    )


def _fractions(folder: ImageFolder, proposed: ProposedGroups) -> str:
    """The fractions that these groups need if the default ones cannot be split."""
    if len(folder) > MAX_SPLIT_IMAGES:
        return ""
    samples = [replace(sample, group=group) for sample, group in zip(folder.samples, proposed.groups, strict=True)]
    grouped = replace(folder, samples=join_duplicates(samples, folder.classes)[0])
    fractions = fractions_that_work(grouped)
    if fractions is None or fractions == (VALIDATION, TEST):
        return ""
    return f" and {as_options(*fractions)}"


def _blank(images: Sequence[ImageFacts]) -> list[tuple[str, str]]:
    blank = [image for image in images if image.is_flat]
    if not blank:
        return []
    return [
        (
            "blank_images",
            f"{len(blank)} of {len(images)} image(s) are blank: they have one colour, such as "
            f"{_such_as(blank)}. Fix: check how they were exported (the channel, the region), or "
            "leave them out",
        )
    ]


def _dark(images: Sequence[ImageFacts]) -> list[tuple[str, str]]:
    dark = [image for image in images if not image.is_flat and image.brightest <= _limit(image)]
    if not dark:
        return []
    brightest = max(image.brightest for image in dark)
    wide = sum(image.traits.get("bits") == "16" for image in dark)
    reason = (
        f"; {wide} of them have 16 bits per sample, and cameras of 10 to 14 bits fill only a part of these"
        if wide
        else ""
    )
    return [
        (
            "dark_images",
            f"{len(dark)} of {len(images)} image(s) are nearly black: their brightest value is {brightest} of 255, "
            f"such as {_such_as(dark)}{reason}. Fix: scale their values to the full range before you save them "
            "(12-bit values: multiply by 16)",
        )
    ]


def _limit(image: ImageFacts) -> int:
    bits = image.traits.get("bits", "")
    return _DARK.get(int(bits), _DARK_AT_ALL) if bits.isdecimal() else _DARK_AT_ALL


def _told_by_files(images: Sequence[ImageFacts]) -> list[tuple[str, str]]:
    tells = telling_traits(images)
    if not tells:
        return []
    by_label = {label: list(group) for label, group in groupby(sorted(tells, key=_label_of), key=_label_of)}
    first = max(by_label, key=lambda label: by_label[label][0].accuracy)
    best = max(by_label[first], key=lambda tell: tell.accuracy)
    also = list(dict.fromkeys(tell.trait for tell in by_label[first] if tell is not best))
    others = [label for label in by_label if label != first]
    return [
        (
            "class_from_metadata",
            f"{first[:80]!r} can be told from the other classes without looking at the image, by the {best.trait} "
            f"alone: {best.how}"
            + (f". So it can by the {' and the '.join(also[:_SHOWN])}" if also else "")
            + (f". The same holds for {', '.join(repr(label[:80]) for label in others[:_SHOWN])}" if others else "")
            + ". Training may learn this difference instead of the content. Fix: take or save the images of all "
            "classes in the same way (format, colour mode, size, border)",
        )
    ]


def _label_of(tell: Tell) -> str:
    return tell.label


def _such_as(images: Sequence[ImageFacts]) -> str:
    return ", ".join(image.path[:120] for image in images[:_SHOWN])
