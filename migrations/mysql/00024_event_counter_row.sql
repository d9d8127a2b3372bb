-- +goose Up
-- Not from 1: after a way down and up again nobody's place may be one of another time.
INSERT IGNORE INTO event_counter (id, last) VALUES (1, 1000 * UNIX_TIMESTAMP());

-- +goose Down
DELETE FROM event_counter;
