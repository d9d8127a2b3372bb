-- +goose Up
-- The categories that UCloud's Core is known to have, with what cannot change
-- there any more.
CREATE TABLE pushed_categories (
    provider TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    currency TEXT    NOT NULL,
    period   TEXT    NOT NULL,
    free     BOOLEAN NOT NULL,
    PRIMARY KEY (provider, name)
);

-- +goose Down
DROP TABLE pushed_categories;
