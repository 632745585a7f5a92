/** What each kind of record of the audit log says, in words. */

const DEEDS = {
  "PUT /adapters/{name}": "uploaded an adapter",
  "POST /adapters": "uploaded an adapter",
  "POST /adapters/{name}/import": "imported an adapter",
  "DELETE /adapters/{name}": "deleted an adapter",
  "DELETE /adapters/{name}/versions/{version}": "deleted a version",
  "POST /adapters/{name}/undelete": "brought an adapter back",
  "POST /adapters/{name}/versions/{version}/undelete": "brought a version back",
  "POST /adapters/{name}/versions/{version}/release": "released a version",
  "PUT /adapters/{name}/aliases/{alias}": "set an alias or began a rollout",
  "DELETE /adapters/{name}/aliases/{alias}": "deleted an alias",
  "POST /adapters/{name}/rollouts/{alias}/promote": "promoted a version",
  "POST /adapters/{name}/rollouts/{alias}/rollback": "rolled back",
  "PUT /adapters/{name}/shared": "shared an adapter",
  "DELETE /adapters/{name}/shared": "stopped sharing an adapter",
  "PUT /datasets/{name}": "uploaded a dataset",
  "PUT /datasets/{name}/uploads/{digest}": "uploaded a part of a dataset",
  "DELETE /datasets/{name}": "deleted a dataset",
  "POST /datasets/{name}/undelete": "brought a dataset back",
  "POST /datasets/{name}/review": "asked for a review",
  "PATCH /datasets/{name}/items": "corrected labels",
  "PUT /datasets/{name}/shared": "shared a dataset",
  "DELETE /datasets/{name}/shared": "stopped sharing a dataset",
  "POST /datasets/{name}/labels": "labelled images",
  "POST /datasets/{name}/unlabelled": "added images to label",
  "POST /datasets/{name}/versions": "made a version of labelled images",
  "POST /feedback": "corrected an answer",
  "POST /jobs": "asked for a training",
  "DELETE /jobs/{job_id}": "cancelled a job",
  "POST /jobs/{job_id}/retry": "tried a job again",
  "PUT /jobs/{job_id}/files/{name}": "sent a file of a job",
  "POST /tokens": "made a token",
  "POST /tokens/{name}/rotate": "gave a token a new secret",
  "DELETE /tokens/{name}": "revoked a token",
};

/** What was done; for a kind that has no words here, the method and path of the request. */
export const deedOf = (action) => DEEDS[action] ?? action;

/** What training processes write while they work: many records that say little. */
export const isRoutine = ({ action, status }) => action === "PUT /jobs/{job_id}/files/{name}" && status < 400;
