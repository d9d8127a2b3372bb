-- +goose Up
-- name_folded is the name in lower case: two names may not differ in case only.
CREATE TABLE IF NOT EXISTS regions (
    name             VARCHAR(64)     NOT NULL PRIMARY KEY,
    name_folded      VARCHAR(64)     NOT NULL,
    keystone_url     VARCHAR(2000)   NOT NULL,
    nova_url         VARCHAR(2000)   NOT NULL,
    username         VARCHAR(255)    NOT NULL,
    password         VARBINARY(2048) NOT NULL,
    tenant           VARCHAR(255)    NOT NULL,
    user_domain      VARCHAR(255)    NOT NULL,
    project_domain   VARCHAR(255)    NOT NULL,
    trusted          BOOLEAN         NOT NULL,
    nova_url_trusted BOOLEAN         NOT NULL,
    state            VARCHAR(32)     NOT NULL,
    last_error       MEDIUMTEXT      NOT NULL,
    checked_at       DATETIME(6),
    CONSTRAINT regions_name_folded UNIQUE (name_folded)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS regions;
