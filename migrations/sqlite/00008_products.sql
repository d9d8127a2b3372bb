-- +goose Up
-- What managers have said of promoted flavors as products. price is in millionths
-- of the currency, for one whole product each period; NULL: by the formula.
CREATE TABLE products (
    flavor_id    TEXT    NOT NULL PRIMARY KEY REFERENCES flavors (id) ON DELETE CASCADE,
    ended        BOOLEAN NOT NULL,
    category     TEXT    NOT NULL,
    price        INTEGER,
    currency     TEXT    NOT NULL,
    period       TEXT    NOT NULL,
    free         BOOLEAN NOT NULL,
    hidden       BOOLEAN NOT NULL,
    cpu_model    TEXT    NOT NULL,
    memory_model TEXT    NOT NULL,
    gpu_model    TEXT    NOT NULL,
    description  TEXT    NOT NULL,
    CHECK (length(category) <= 64 AND length(description) <= 1000)
);

-- +goose Down
DROP TABLE products;
