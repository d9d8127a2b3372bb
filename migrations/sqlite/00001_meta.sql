-- +goose Up
-- What the database knows of itself: the id of the key its passwords are
-- encrypted with, whether it is a demonstration.
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- +goose Down
DROP TABLE meta;
