"""The endpoints of jobs: one function each, from arguments to a Call."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from lensmount_client._api.read import body_of
from lensmount_client._api.read_jobs import file_of, job_of
from lensmount_client._errors import InvalidInput
from lensmount_client._http.call import Call
from lensmount_client._http.download import Download
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.response import Response
from lensmount_client._reference import NAME, checked_name
from lensmount_client._types.datasets import Dataset
from lensmount_client._types.job_options import JobOptions
from lensmount_client._types.jobs import STATES, JobFile, JobInfo
from lensmount_client._types.results import DownloadedFile

JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
KEY = re.compile(r"[\x21-\x7e]{1,128}")
JSON = "application/json"


def submit_job(
    dataset: str | Dataset, adapter: str, options: Mapping[str, Any], idempotency_key: str | None
) -> Call[JobInfo]:
    """`options` are those of JobOptions. Without a key a random one is used, so that a retried request is one job."""
    unknown = sorted(set(options) - set(JobOptions.__annotations__))
    if unknown:
        known = ", ".join(JobOptions.__annotations__)
        raise InvalidInput(f"found unknown options {', '.join(unknown)}, expected some of {known}")
    key = secrets.token_hex(16) if idempotency_key is None else idempotency_key
    if not KEY.fullmatch(key):
        raise InvalidInput(f"idempotency_key: found {key!r}, expected 1 to 128 visible ASCII characters")
    fields = {
        "dataset": checked_dataset(dataset),
        "adapter": checked_name(adapter),
        **{name: value for name, value in options.items() if value is not None},
    }
    try:
        body = json.dumps(fields, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"options: found a value that is not JSON ({error}), expected strings, numbers, true or false"
        ) from error
    return Call("POST", "/jobs", _read, content=body, content_type=JSON, headers={"Idempotency-Key": key})


def submit_predict(
    dataset: str | Dataset, adapters: Sequence[str], priority: int, idempotency_key: str | None
) -> Call[JobInfo]:
    """A job that labels a dataset. Without a key a random one is used, as for `submit_job`."""
    key = secrets.token_hex(16) if idempotency_key is None else idempotency_key
    if not KEY.fullmatch(key):
        raise InvalidInput(f"idempotency_key: found {key!r}, expected 1 to 128 visible ASCII characters")
    fields = {"kind": "predict", "dataset": checked_dataset(dataset), "adapters": list(adapters), "priority": priority}
    body = json.dumps(fields).encode()
    return Call("POST", "/jobs", _read, content=body, content_type=JSON, headers={"Idempotency-Key": key})


def get_job(job_id: str) -> Call[JobInfo]:
    return Call("GET", job_path(job_id), _read)


def list_jobs(state: str | None, limit: int, before: str | None) -> Call[list[JobInfo]]:
    """One page, newest first, of the jobs older than `before`."""
    params: dict[str, str | int] = {"limit": limit}
    if state is not None:
        if state not in STATES:
            raise InvalidInput(f"state: found {state!r}, expected one of {', '.join(STATES)}")
        params["state"] = state
    if before is not None:
        params["before"] = before

    def read(response: Response) -> list[JobInfo]:
        return [job_of(item) for item in JsonFields.of(response).children("jobs")]

    return Call("GET", "/jobs", read, params=params)


def cancel_job(job_id: str) -> Call[JobInfo]:
    return Call("DELETE", job_path(job_id), _read)


def retry_job(job_id: str) -> Call[JobInfo]:
    return Call("POST", f"{job_path(job_id)}/retry", _read)


def job_log(job_id: str) -> Call[str]:
    return Call(
        "GET", f"{job_path(job_id)}/log", lambda response: body_of(response, "text/plain").decode(errors="replace")
    )


def job_files(job_id: str) -> Call[list[JobFile]]:
    def read(response: Response) -> list[JobFile]:
        return [file_of(item) for item in JsonFields.of(response).children("files")]

    return Call("GET", f"{job_path(job_id)}/files", read)


def delete_files(job_id: str) -> Call[None]:
    return Call("DELETE", f"{job_path(job_id)}/files", lambda response: None)


def download_file(job_id: str, file: JobFile, download: Download) -> Call[DownloadedFile]:
    """`file` is an element of what `job_files` returned."""

    def read(response: Response) -> DownloadedFile:
        return download.finish(file.digest, response.request_id)

    path = f"{job_path(job_id)}/files/{checked_file(file.name)}"
    return Call("GET", path, read, sink=download, limit_bytes=max(file.size_bytes, 2**20))


def job_path(job_id: str) -> str:
    """Raises InvalidInput."""
    if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
        raise InvalidInput(f"job id: found {job_id!r}, expected an id that `submit` or `list` returned")
    return f"/jobs/{job_id}"


def checked_file(name: str) -> str:
    """The name itself. Raises InvalidInput."""
    if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
        raise InvalidInput(f"file: found {name!r}, expected a name from `files`, such as report.html")
    return name


def checked_dataset(dataset: str | Dataset) -> str:
    """`name` or `name@version`. Raises InvalidInput."""
    if isinstance(dataset, Dataset):
        return dataset.reference
    name, separator, version = dataset.partition("@") if isinstance(dataset, str) else ("", "", "")
    if NAME.fullmatch(name) and (re.fullmatch(r"[1-9][0-9]{0,8}", version) if separator else True):
        return dataset
    raise InvalidInput(f"dataset: found {dataset!r}, expected name or name@3")


def _read(response: Response) -> JobInfo:
    return job_of(JsonFields.of(response))
