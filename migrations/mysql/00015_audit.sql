-- +goose Up
-- What known callers have changed, or were refused. Lines are added, and dropped
-- by age: never changed. id is a UUID of version 7: later ones sort behind.
CREATE TABLE IF NOT EXISTS audit (
    id           VARCHAR(36)  NOT NULL PRIMARY KEY,
    at           DATETIME(6)  NOT NULL,
    provider     VARCHAR(255) NOT NULL,
    caller       VARCHAR(255) NOT NULL,
    name         VARCHAR(255) NOT NULL,
    address      VARCHAR(64)  NOT NULL,
    request_id   VARCHAR(64)  NOT NULL,
    action       VARCHAR(64)  NOT NULL,
    object       VARCHAR(32)  NOT NULL,
    flavor       VARCHAR(255) NOT NULL,
    region       VARCHAR(64)  NOT NULL,
    outcome      VARCHAR(16)  NOT NULL,
    message      MEDIUMTEXT   NOT NULL,
    count        INT          NOT NULL,
    before_value LONGTEXT     NOT NULL,
    after_value  LONGTEXT     NOT NULL,
    INDEX audit_at (at),
    INDEX audit_caller (caller, id),
    INDEX audit_flavor (flavor, id),
    INDEX audit_request (request_id)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS audit;
