CREATE TABLE lensmount_schema (
    version SERIAL NOT NULL,
    PRIMARY KEY (version)
);
CREATE TABLE versions (
    name VARCHAR(64) NOT NULL,
    version INTEGER NOT NULL,
    digest VARCHAR(71) NOT NULL,
    size_bytes BIGINT NOT NULL,
    created_at VARCHAR(32) NOT NULL,
    deleted BOOLEAN NOT NULL,
    manifest TEXT NOT NULL,
    PRIMARY KEY (name, version)
);
CREATE INDEX ix_versions_digest ON versions (digest);
CREATE TABLE aliases (
    name VARCHAR(64) NOT NULL,
    alias VARCHAR(64) NOT NULL,
    version INTEGER NOT NULL,
    accept_confidence DOUBLE PRECISION,
    unfamiliar_percentile DOUBLE PRECISION,
    PRIMARY KEY (name, alias)
);
CREATE TABLE datasets (
    name VARCHAR(64) NOT NULL,
    version INTEGER NOT NULL,
    digest VARCHAR(71) NOT NULL,
    size_bytes BIGINT NOT NULL,
    created_at VARCHAR(32) NOT NULL,
    deleted BOOLEAN NOT NULL,
    images INTEGER NOT NULL,
    classes JSON NOT NULL,
    report JSON NOT NULL,
    source_digest VARCHAR(71) NOT NULL,
    source_bytes BIGINT NOT NULL,
    PRIMARY KEY (name, version)
);
CREATE INDEX ix_datasets_digest ON datasets (digest);
CREATE INDEX ix_datasets_source_digest ON datasets (source_digest);
CREATE TABLE pool_images (
    dataset VARCHAR(64) NOT NULL,
    digest VARCHAR(71) NOT NULL,
    suffix VARCHAR(8) NOT NULL,
    size_bytes BIGINT NOT NULL,
    group_name VARCHAR(256),
    added_at FLOAT NOT NULL,
    added_by VARCHAR(64) NOT NULL,
    PRIMARY KEY (dataset, digest)
);
CREATE TABLE pool_labels (
    number SERIAL NOT NULL,
    dataset VARCHAR(64) NOT NULL,
    digest VARCHAR(71) NOT NULL,
    label VARCHAR(256) NOT NULL,
    who VARCHAR(64) NOT NULL,
    at FLOAT NOT NULL,
    adapter VARCHAR(160),
    request_id VARCHAR(64),
    PRIMARY KEY (number)
);
CREATE INDEX ix_pool_labels_image ON pool_labels (dataset, digest);
CREATE TABLE pool_leases (
    dataset VARCHAR(64) NOT NULL,
    digest VARCHAR(71) NOT NULL,
    who VARCHAR(64) NOT NULL,
    until FLOAT NOT NULL,
    PRIMARY KEY (dataset, digest)
);
CREATE TABLE jobs (
    number SERIAL NOT NULL,
    id VARCHAR(32) NOT NULL,
    state VARCHAR(16) NOT NULL,
    dataset VARCHAR(64) NOT NULL,
    dataset_version INTEGER NOT NULL,
    dataset_digest VARCHAR(71) NOT NULL,
    adapter VARCHAR(64) NOT NULL,
    alias VARCHAR(64),
    backbone VARCHAR(71) NOT NULL,
    hyper_parameters JSON NOT NULL,
    priority INTEGER NOT NULL,
    margin FLOAT NOT NULL,
    force BOOLEAN NOT NULL,
    attempt INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    run_after FLOAT NOT NULL,
    lease_owner VARCHAR(128),
    lease_token VARCHAR(32),
    lease_until FLOAT,
    cancel_requested BOOLEAN NOT NULL,
    progress JSON,
    outcome JSON,
    error_code VARCHAR(64),
    error_message TEXT,
    idempotency_key VARCHAR(128),
    request_digest VARCHAR(71),
    created_at FLOAT NOT NULL,
    started_at FLOAT,
    finished_at FLOAT,
    PRIMARY KEY (number),
    UNIQUE (id),
    UNIQUE (idempotency_key)
);
CREATE INDEX ix_jobs_dataset ON jobs (dataset, dataset_version);
CREATE INDEX ix_jobs_claim ON jobs (state, priority, number);
CREATE TABLE job_events (
    job_id VARCHAR(32) NOT NULL,
    number INTEGER NOT NULL,
    kind VARCHAR(16) NOT NULL,
    at FLOAT NOT NULL,
    data JSON NOT NULL,
    PRIMARY KEY (job_id, number)
);
CREATE TABLE publications (
    job_id VARCHAR(32) NOT NULL,
    lease_token VARCHAR(32) NOT NULL,
    name VARCHAR(64) NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (job_id)
);
CREATE TABLE workers (
    name VARCHAR(128) NOT NULL,
    backbone VARCHAR(71) NOT NULL,
    seen_at FLOAT NOT NULL,
    PRIMARY KEY (name)
);
INSERT INTO lensmount_schema VALUES (3);
INSERT INTO versions (name, version, digest, size_bytes, created_at, deleted, manifest) VALUES ('cells', 1, 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 7, '2026-11-22T10:00:00Z', false, '{}');
INSERT INTO versions (name, version, digest, size_bytes, created_at, deleted, manifest) VALUES ('cells', 2, 'sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 8, '2026-11-22T11:00:00Z', true, '{}');
INSERT INTO aliases (name, alias, version) VALUES ('cells', 'prod', 1);
INSERT INTO jobs (id, state, dataset, dataset_version, dataset_digest, adapter, backbone, hyper_parameters, priority, margin, force, attempt, max_attempts, run_after, cancel_requested, created_at) VALUES ('j1', 'queued', 'leaves', 1, 'sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', 'cells', 'sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', '{}', 0, 0.0, false, 0, 3, 0.0, false, 1764000000.0);
INSERT INTO datasets (name, version, digest, size_bytes, created_at, deleted, images, classes, report, source_digest, source_bytes) VALUES ('leaves', 1, 'sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', 9, '2026-11-22T10:00:00Z', false, 2, '{"a": 2}', '{}', 'sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee', 9);
INSERT INTO pool_images (dataset, digest, suffix, size_bytes, added_at, added_by) VALUES ('leaves', 'sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff', '.png', 5, 1764000000.0, 'ann');
