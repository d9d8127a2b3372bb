-- +goose Up
-- The processes that serve, and the ids of the keys that each can decrypt with:
-- none may be promoted that one of them does not have. deadline is in milliseconds
-- since 1970 of the database's clock; who is past it is gone.
CREATE TABLE IF NOT EXISTS keyset_replicas (
    id       VARCHAR(36)  NOT NULL PRIMARY KEY,
    name     VARCHAR(255) NOT NULL,
    key_ids  TEXT         NOT NULL,
    deadline BIGINT       NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS keyset_replicas;
