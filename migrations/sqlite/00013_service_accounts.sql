-- +goose Up
-- A service account may also be an application credential, or an access token.
ALTER TABLE regions ADD COLUMN auth_type                   TEXT    NOT NULL DEFAULT 'password';
ALTER TABLE regions ADD COLUMN application_credential_id   TEXT    NOT NULL DEFAULT '';
ALTER TABLE regions ADD COLUMN application_credential_name TEXT    NOT NULL DEFAULT '';
ALTER TABLE regions ADD COLUMN identity_provider           TEXT    NOT NULL DEFAULT '';
ALTER TABLE regions ADD COLUMN protocol                    TEXT    NOT NULL DEFAULT '';
ALTER TABLE regions ADD COLUMN ca_certificate              TEXT    NOT NULL DEFAULT '';
ALTER TABLE regions ADD COLUMN ca_certificate_trusted      BOOLEAN NOT NULL DEFAULT FALSE;

-- +goose Down
ALTER TABLE regions DROP COLUMN auth_type;
ALTER TABLE regions DROP COLUMN application_credential_id;
ALTER TABLE regions DROP COLUMN application_credential_name;
ALTER TABLE regions DROP COLUMN identity_provider;
ALTER TABLE regions DROP COLUMN protocol;
ALTER TABLE regions DROP COLUMN ca_certificate;
ALTER TABLE regions DROP COLUMN ca_certificate_trusted;
