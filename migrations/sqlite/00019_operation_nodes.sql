-- +goose Up
-- One region of an operation. A process takes it by counting attempts up where
-- nobody else has since, until due (milliseconds since 1970 of the database's
-- clock), and writes what came of it where attempts is still what it made it.
CREATE TABLE operation_nodes (
    operation_id TEXT     NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    region       TEXT     NOT NULL,
    state        TEXT     NOT NULL,
    attempts     INTEGER  NOT NULL,
    due          INTEGER  NOT NULL,
    input        TEXT     NOT NULL,
    last_error   TEXT     NOT NULL,
    updated_at   DATETIME NOT NULL,
    PRIMARY KEY (operation_id, region)
);
CREATE INDEX operation_nodes_due ON operation_nodes (state, due);
CREATE INDEX operation_nodes_region ON operation_nodes (region, state);

-- +goose Down
DROP TABLE operation_nodes;
