"""What the trunk gave for images, kept in memory and on disk, so that the next adapter costs its branch alone.

| attribute | threads | lock or owner |
|---|---|---|
| `MemoryOutputs`: entries, bytes | all | its own `_lock` |
| `DiskOutputs._sizes` | all | its own `_lock`; files are renamed into place, and checked when they are read |
"""
