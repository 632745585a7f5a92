"""Answers as rows: dictionaries, or a table of pandas, which is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lensmount_client._errors import InvalidInput

if TYPE_CHECKING:
    import pandas

Record = dict[str, Any]


def data_frame(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pandas.DataFrame:
    """One row per record. An empty table has the columns too. Raises InvalidInput if pandas is not installed."""
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise InvalidInput(
            "to_pandas(): found no pandas on this machine, expected it to be installed. "
            "Fix: pip install pandas, or to_records(), which gives the same rows as dictionaries"
        ) from error
    return pandas.DataFrame([dict(record) for record in records], columns=list(columns))
