CREATE TABLE aliases (
    name VARCHAR(64) NOT NULL,
    alias VARCHAR(64) NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (name, alias)
);
CREATE TABLE versions (
    name VARCHAR(64) NOT NULL,
    version INTEGER NOT NULL,
    digest VARCHAR(71) NOT NULL,
    size_bytes INTEGER NOT NULL,
    created_at VARCHAR(32) NOT NULL,
    deleted BOOLEAN NOT NULL,
    manifest TEXT NOT NULL,
    PRIMARY KEY (name, version)
);
CREATE INDEX ix_versions_digest ON versions (digest);
PRAGMA user_version = 1;
INSERT INTO versions (name, version, digest, size_bytes, created_at, deleted, manifest) VALUES ('cells', 1, 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 7, '2026-11-22T10:00:00Z', false, '{}');
INSERT INTO versions (name, version, digest, size_bytes, created_at, deleted, manifest) VALUES ('cells', 2, 'sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 8, '2026-11-22T11:00:00Z', true, '{}');
INSERT INTO aliases (name, alias, version) VALUES ('cells', 'prod', 1);
