-- +goose Up
-- As what UCloud's Core was told of a product last: its reference there, and the
-- whole of what was sent, as JSON.
CREATE TABLE pushed_products (
    flavor_id TEXT NOT NULL PRIMARY KEY REFERENCES flavors (id) ON DELETE CASCADE,
    provider  TEXT NOT NULL,
    category  TEXT NOT NULL,
    name      TEXT NOT NULL,
    sent      TEXT NOT NULL
);

-- +goose Down
DROP TABLE pushed_products;
