"""What each route needs. A route that is not listed here stops the server at its start."""

from __future__ import annotations

from typing import Literal

from lensmount_service.access.scopes import Scope

Need = Scope | Literal["operator", "any"]
"""A scope; or `operator`: an administrator of the default tenant; or `any`: every valid token."""

POLICY: dict[tuple[str, str], Need] = {
    ("POST", "/predict"): "predict",
    ("POST", "/explain"): "predict",
    ("POST", "/feedback"): "predict",
    ("GET", "/integrations/labelstudio/{adapter}/health"): "predict",
    ("POST", "/integrations/labelstudio/{adapter}/setup"): "predict",
    ("POST", "/integrations/labelstudio/{adapter}/predict"): "predict",
    ("POST", "/integrations/labelstudio/{adapter}/webhook"): "train",
    ("GET", "/adapters"): "any",
    ("GET", "/adapters/{name}"): "any",
    ("GET", "/adapters/{name}/versions/{version}"): "any",
    ("GET", "/adapters/{name}/file"): "upload",
    ("GET", "/adapters/{name}/export"): "upload",
    ("PUT", "/adapters/{name}"): "upload",
    ("POST", "/adapters"): "upload",
    ("POST", "/adapters/{name}/import"): "upload",
    ("DELETE", "/adapters/{name}"): "upload",
    ("DELETE", "/adapters/{name}/versions/{version}"): "upload",
    ("POST", "/adapters/{name}/undelete"): "upload",
    ("POST", "/adapters/{name}/versions/{version}/undelete"): "upload",
    ("PUT", "/adapters/{name}/aliases/{alias}"): "upload",
    ("DELETE", "/adapters/{name}/aliases/{alias}"): "upload",
    ("GET", "/datasets"): "train",
    ("PUT", "/datasets/{name}"): "train",
    ("GET", "/datasets/{name}"): "train",
    ("DELETE", "/datasets/{name}"): "train",
    ("POST", "/datasets/{name}/undelete"): "train",
    ("GET", "/datasets/{name}/file"): "train",
    ("GET", "/datasets/{name}/uploads/{digest}"): "train",
    ("PUT", "/datasets/{name}/uploads/{digest}"): "train",
    ("POST", "/datasets/{name}/review"): "train",
    ("GET", "/datasets/{name}/review"): "train",
    ("PATCH", "/datasets/{name}/items"): "train",
    ("GET", "/datasets/{name}/items/image"): "train",
    ("POST", "/datasets/{name}/unlabelled"): "train",
    ("DELETE", "/datasets/{name}/unlabelled"): "train",
    ("GET", "/datasets/{name}/unlabelled/{digest}"): "train",
    ("POST", "/datasets/{name}/next"): "train",
    ("POST", "/datasets/{name}/labels"): "train",
    ("GET", "/datasets/{name}/labels"): "train",
    ("POST", "/datasets/{name}/versions"): "train",
    ("POST", "/jobs"): "train",
    ("GET", "/jobs"): "train",
    ("GET", "/jobs/{job_id}"): "train",
    ("DELETE", "/jobs/{job_id}"): "train",
    ("POST", "/jobs/{job_id}/retry"): "train",
    ("GET", "/jobs/{job_id}/events"): "train",
    ("GET", "/jobs/{job_id}/log"): "train",
    ("GET", "/jobs/{job_id}/files"): "train",
    ("GET", "/jobs/{job_id}/files/{name}"): "train",
    ("PUT", "/jobs/{job_id}/files/{name}"): "train",
    ("GET", "/limits"): "any",
    ("GET", "/integrity"): "operator",
    ("GET", "/metrics"): "operator",
}
