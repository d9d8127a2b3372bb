-- +goose Up
-- Not from 1: after a way down and up again no process may take it for the one it knows.
INSERT INTO catalogue_version (id, version) VALUES (1, 1000 * UNIX_TIMESTAMP());

-- +goose Down
DELETE FROM catalogue_version;
