"""Writes DICOM files of one frame through pydicom's data elements, for the tests."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

EXPLICIT = "1.2.840.10008.1.2.1"


def dicom(samples: np.ndarray, stored: int, syntax: str = EXPLICIT, frame: bytes | None = None, **tags: Any) -> bytes:
    """A file of [rows, columns] or [rows, columns, 3]. `frame` is the compressed frame of another transfer syntax."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import SecondaryCaptureImageStorage

    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = syntax
    file.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    file.Rows, file.Columns = samples.shape[:2]
    file.SamplesPerPixel = samples.shape[2] if samples.ndim == 3 else 1
    file.BitsAllocated = 8 * samples.dtype.itemsize
    file.BitsStored, file.HighBit, file.PixelRepresentation = stored, stored - 1, 0
    file.PhotometricInterpretation = "MONOCHROME2"
    for name, value in tags.items():
        setattr(file, name, value)
    is_planar = samples.ndim == 3 and tags.get("PlanarConfiguration") == 1
    raw = (samples.transpose(2, 0, 1) if is_planar else samples).tobytes()
    file.PixelData = encapsulate([frame]) if frame is not None else raw + bytes(len(raw) % 2)
    if frame is not None:
        file["PixelData"].is_undefined_length = True
    file["PixelData"].VR = "OB" if frame is not None or samples.dtype.itemsize == 1 else "OW"
    buffer = io.BytesIO()
    little = syntax != "1.2.840.10008.1.2.2"
    file.save_as(buffer, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=little, enforce_file_format=True)
    return buffer.getvalue()
