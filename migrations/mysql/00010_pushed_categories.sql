-- +goose Up
-- The categories that UCloud's Core is known to have, with what cannot change
-- there any more.
CREATE TABLE IF NOT EXISTS pushed_categories (
    provider VARCHAR(255) NOT NULL,
    name     VARCHAR(255) NOT NULL,
    currency VARCHAR(255) NOT NULL,
    period   VARCHAR(16)  NOT NULL,
    free     BOOLEAN      NOT NULL,
    PRIMARY KEY (provider, name)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS pushed_categories;
