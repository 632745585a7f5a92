"""Look at every image of a dataset once before a training run: name all that cannot be read, and warn about the others.

So a broken file of the test part is found before the training and not after it.
"""

from __future__ import annotations

from lensmount_adapters.data.broken_files import Unreadable, broken_files
from lensmount_adapters.data.data_warnings import warnings_about_groups, warnings_about_images
from lensmount_adapters.data.dataset import ImageFolder
from lensmount_adapters.data.dataset_report import warnings_about_look_alikes
from lensmount_adapters.data.image_facts import ImageFacts, facts_of
from lensmount_adapters.data.split import Split
from lensmount_adapters.errors import DatasetError, ImageError
from lensmount_adapters.inputs.images import decode_image


def survey_images(folder: ImageFolder, split: Split) -> tuple[str, ...]:
    """Decode every image once. Returns sentences about data that cannot mean what they say, for this split.

    Raises a DatasetError that lists all files that cannot be read, whatever part of the split they are in.
    """
    part_of = {index: part for part, indices in split.parts().items() for index in indices}
    images: list[ImageFacts] = []
    broken: list[Unreadable] = []
    for index, sample in enumerate(folder.samples):
        try:
            data = folder.read(sample.path)
            image = decode_image(data, folder.limits)
        except (ImageError, DatasetError, OSError) as error:
            broken.append(Unreadable(sample.path, str(error)))
            continue
        label = folder.classes[sample.label]
        images.append(facts_of(data, image, sample.path, label, sample.group, part_of.get(index)))
    if broken:
        raise DatasetError(
            f"{broken_files(str(folder.root), len(folder.samples), broken)}\nFix: repair or remove these files"
        )
    warnings = [
        *warnings_about_images(images),
        *warnings_about_look_alikes(images),
        *warnings_about_groups(folder, split),
    ]
    return tuple(message for _, message in warnings)
