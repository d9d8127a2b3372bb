-- +goose Up
-- A service account may also be an application credential, or an access token,
-- which is longer than a password. MySQL has no ADD COLUMN IF NOT EXISTS, and a
-- step that a crash kept from being noted runs again: hence the detour.
SET @step = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'regions' AND column_name = 'auth_type') = 0,
'ALTER TABLE regions
    MODIFY password                        BLOB         NOT NULL,
    ADD COLUMN auth_type                   VARCHAR(32)  NOT NULL DEFAULT ''password'',
    ADD COLUMN application_credential_id   VARCHAR(255) NOT NULL DEFAULT '''',
    ADD COLUMN application_credential_name VARCHAR(255) NOT NULL DEFAULT '''',
    ADD COLUMN identity_provider           VARCHAR(255) NOT NULL DEFAULT '''',
    ADD COLUMN protocol                    VARCHAR(255) NOT NULL DEFAULT '''',
    ADD COLUMN ca_certificate              MEDIUMTEXT   NOT NULL DEFAULT (''''),
    ADD COLUMN ca_certificate_trusted      BOOLEAN      NOT NULL DEFAULT FALSE',
'DO 0');
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;

-- +goose Down
-- The wider column stays: what is in it is encrypted, and cannot be made shorter.
SET @step = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'regions' AND column_name = 'auth_type') = 1,
'ALTER TABLE regions
    DROP COLUMN auth_type,
    DROP COLUMN application_credential_id,
    DROP COLUMN application_credential_name,
    DROP COLUMN identity_provider,
    DROP COLUMN protocol,
    DROP COLUMN ca_certificate,
    DROP COLUMN ca_certificate_trusted',
'DO 0');
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
