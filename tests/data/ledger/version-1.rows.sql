-- A backup that has ended, one that is at work: its dump is done, two parts of its upload are due.
INSERT INTO jobs VALUES ('backup:shop', '0 2 * * *', 1760000000.5);
INSERT INTO runs VALUES ('r1', 'backup', 'shop', 'verified', '{"databases": ["shop"]}', 'ann@host', 'key-1', 'backup:shop',
  1760000000.0, '', 1, 'shop-backup-20251009-085320', 's1', '{"size": 5}', '{"copies": [{"ok": true}]}', NULL,
  1760000000.0, 1760000001.25, 1760000060.0);
INSERT INTO runs VALUES ('r2', 'backup', 'shop', 'running', '{"databases": ["shop"]}', 'schedule', NULL, 'backup:shop',
  1760086400.0, '', 2, 'shop-backup-20251010-085320', 's1', '{}', '{}', NULL, 1760086400.0, 1760086401.0, NULL);
INSERT INTO steps VALUES (1, 'r2', 2, 'backup.dump', '', 'dump', 'dump/', '', '', false, 'done', 1, 1, 5, 'me', NULL, NULL,
  0.0, 1, 1760086400.0, 70, 70, '{}', '{}', '{"bytes": 70}', NULL, 1760086400.0, 1760086401.0, 1760086410.0);
INSERT INTO steps VALUES (2, 'r2', 2, 'backup.upload_part', '1', 'spool.s1', 'up/', '', 'up', false, 'due', 0, 0, 5, NULL, NULL,
  NULL, 0.0, 0, NULL, 0, 0, '{"part": 1}', '{}', '{}', NULL, 1760086410.0, NULL, NULL);
INSERT INTO steps VALUES (3, 'r2', 2, 'backup.upload_part', '2', 'spool.s1', 'up/', '', 'up', false, 'due', 2, 2, 5, NULL, NULL,
  NULL, 0.0, 0, NULL, 0, 0, '{"part": 2}', '{"tried": true}', '{}', '{"type": "StorageUnavailable", "message": "Away."}',
  1760086410.0, NULL, NULL);
INSERT INTO notices VALUES (1, 'r1', 'backup.verified', '{"database": "shop"}', 1, 0.0, 1760000060.0, 1760000061.0);
