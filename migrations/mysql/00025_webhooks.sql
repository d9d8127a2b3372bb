-- +goose Up
-- How far each webhook has been told the events, and how its next call stands.
CREATE TABLE IF NOT EXISTS webhooks (
    name         VARCHAR(64) NOT NULL PRIMARY KEY,
    position     BIGINT      NOT NULL COMMENT 'the id of the last event that it has taken, or that is not for it',
    attempts     INT         NOT NULL COMMENT 'that have failed since it took one',
    next_attempt BIGINT      NOT NULL COMMENT 'ms since 1970, by the clock of who tried',
    last_error   MEDIUMTEXT  NOT NULL COMMENT 'of the last attempt, empty where it went well'
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS webhooks;
