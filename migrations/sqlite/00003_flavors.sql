-- +goose Up
-- The catalogue: public flavors only. ram and swap in MiB, disk and ephemeral in GB.
CREATE TABLE flavors (
    id          TEXT    NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL CONSTRAINT flavors_name UNIQUE,
    vcpus       INTEGER NOT NULL,
    ram         INTEGER NOT NULL,
    disk        INTEGER NOT NULL,
    swap        INTEGER NOT NULL,
    ephemeral   INTEGER NOT NULL,
    rxtx_factor REAL    NOT NULL,
    description TEXT    NOT NULL,
    extra_specs TEXT    NOT NULL,
    promoted    BOOLEAN NOT NULL,
    retired     BOOLEAN NOT NULL,
    CHECK (length(id) <= 36 AND length(name) <= 255)
);

-- +goose Down
DROP TABLE flavors;
