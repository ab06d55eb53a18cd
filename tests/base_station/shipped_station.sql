BEGIN TRANSACTION;
CREATE TABLE alerts (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	alert_id VARCHAR(36) NOT NULL, 
	device_id VARCHAR(63) NOT NULL, 
	label VARCHAR(32) NOT NULL, 
	drill BOOLEAN NOT NULL, 
	received_utc DATETIME NOT NULL, 
	UNIQUE (alert_id), 
	FOREIGN KEY(device_id) REFERENCES devices (device_id)
);
INSERT INTO "alerts" VALUES(1,'00000000-0000-4000-8000-000000000001','ipe-07','chainsaw',0,'2026-11-20 03:00:00.000000');
INSERT INTO "alerts" VALUES(2,'00000000-0000-4000-8000-000000000002','cedro-01','engine',1,'2026-11-20 03:00:40.000000');
CREATE TABLE blobs (
	alert_id VARCHAR(36) NOT NULL, 
	revision INTEGER NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	data BLOB NOT NULL, 
	PRIMARY KEY (alert_id, revision, kind), 
	FOREIGN KEY(alert_id) REFERENCES alerts (alert_id)
);
INSERT INTO "blobs" VALUES('00000000-0000-4000-8000-000000000001',0,'log_mel',X'789C0160009FFF000305080B0D101315181B1E202326282B2E303336383B3E404346484B4E515356595B5E616366696B6E717376797B7E818486898C8E919496999C9EA1A4A6A9ACAEB1B4B7B9BCBFC1C4C7C9CCCFD1D4D7D9DCDFE1E4E7EAECEFF2F4F7FAFCFF0A9B2FD1');
CREATE TABLE contacts (
	device_id VARCHAR(63) NOT NULL, 
	highest_counter BIGINT NOT NULL, 
	boot_id VARCHAR(64), 
	last_contact_utc DATETIME, 
	clock_offset_s FLOAT, 
	heartbeat_utc DATETIME, 
	heartbeat TEXT, 
	PRIMARY KEY (device_id), 
	FOREIGN KEY(device_id) REFERENCES devices (device_id)
);
INSERT INTO "contacts" VALUES('ipe-07',3,'5d0c9e0a-0000-4000-8000-000000000001','2026-11-20 03:00:40.000000',40.0,'2026-11-20 03:00:40.000000','{"schema":2,"device_id":"ipe-07","version":"0.1.0","clock":{"boot_id":"5d0c9e0a-0000-4000-8000-000000000001","monotonic_s":8123.4,"utc":"2026-11-20T03:00:00.000Z","utc_certainty":"synced"},"model_digest":"9f2c51d0a7b3e844","uptime_s":3600.0,"audio_s":3599.0,"audio_per_wall":1.0,"windows":2400,"classified":700,"top_scores":{"chainsaw":0.02,"engine":0.1},"level_dbfs":-52.0,"states":[],"queue":0,"dropped_s":0.0,"disk_free_mb":5000.0,"rss_mb":70.0,"start_reason":"","lag_s":0.0,"reopenings":0,"parked":0,"in_memory":0,"lost_alerts":0,"position":null,"battery":{"percent":81.0,"temperature_c":31.5,"charging":true}}');
INSERT INTO "contacts" VALUES('cedro-01',1,'5d0c9e0a-0000-4000-8000-000000000001','2026-11-20 03:00:40.000000',40.0,NULL,NULL);
CREATE TABLE devices (
	device_id VARCHAR(63) NOT NULL, 
	sealed_key BLOB NOT NULL, 
	added_utc DATETIME NOT NULL, 
	revoked_utc DATETIME, 
	PRIMARY KEY (device_id)
);
INSERT INTO "devices" VALUES('ipe-07',X'674141414141427242623045474C4B396C3842623572516E5A6E64524F63544A756A746F4573466D7656747547314C487067584772366434726F303369433063746D4568666E65464546463061523077497645635A3230557651394A6B7271456F696B754F713977476C78324750374F745252467A4268437542696A4C416D425F4A5376444C527048535F70','2026-11-20 03:00:00.000000',NULL);
INSERT INTO "devices" VALUES('cedro-01',X'67414141414142724262304552547A6537666D68344C4F67374674356876764649694D504445475831616F57667A396A353242332D47386439576C32485A59493472344538755A30684E55726F4743774761396A303341654A7952564836496656744151562D476E664A6A63772D4E4352336C6E424F6E6B626D316C5136454C5F6A65496D68504A55316975','2026-11-20 03:00:00.000000','2026-11-20 03:00:40.000000');
CREATE TABLE heartbeats (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	device_id VARCHAR(63) NOT NULL, 
	received_utc DATETIME NOT NULL, 
	body TEXT NOT NULL, 
	FOREIGN KEY(device_id) REFERENCES devices (device_id)
);
INSERT INTO "heartbeats" VALUES(1,'ipe-07','2026-11-20 03:00:40.000000','{"schema":2,"device_id":"ipe-07","version":"0.1.0","clock":{"boot_id":"5d0c9e0a-0000-4000-8000-000000000001","monotonic_s":8123.4,"utc":"2026-11-20T03:00:00.000Z","utc_certainty":"synced"},"model_digest":"9f2c51d0a7b3e844","uptime_s":3600.0,"audio_s":3599.0,"audio_per_wall":1.0,"windows":2400,"classified":700,"top_scores":{"chainsaw":0.02,"engine":0.1},"level_dbfs":-52.0,"states":[],"queue":0,"dropped_s":0.0,"disk_free_mb":5000.0,"rss_mb":70.0,"start_reason":"","lag_s":0.0,"reopenings":0,"parked":0,"in_memory":0,"lost_alerts":0,"position":null,"battery":{"percent":81.0,"temperature_c":31.5,"charging":true}}');
CREATE TABLE meta (
	name VARCHAR(32) NOT NULL, 
	value VARCHAR(64) NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "meta" VALUES('schema','1');
CREATE TABLE nonces (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	device_id VARCHAR(63) NOT NULL, 
	nonce VARCHAR(64) NOT NULL, 
	expires_utc DATETIME NOT NULL, 
	FOREIGN KEY(device_id) REFERENCES devices (device_id)
);
INSERT INTO "nonces" VALUES(1,'ipe-07','3b74bc0c68c7b302691b8d53bf9f2481','2026-11-20 03:05:40.000000');
CREATE TABLE revisions (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	alert_id VARCHAR(36) NOT NULL, 
	revision INTEGER NOT NULL, 
	received_utc DATETIME NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	score FLOAT NOT NULL, 
	level_dbfs FLOAT NOT NULL, 
	lasted_s FLOAT NOT NULL, 
	onset_utc DATETIME NOT NULL, 
	onset_from VARCHAR(16) NOT NULL, 
	latitude FLOAT, 
	longitude FLOAT, 
	has_log_mel BOOLEAN NOT NULL, 
	body_sha256 BLOB NOT NULL, 
	body TEXT NOT NULL, 
	UNIQUE (alert_id, revision), 
	FOREIGN KEY(alert_id) REFERENCES alerts (alert_id)
);
INSERT INTO "revisions" VALUES(1,'00000000-0000-4000-8000-000000000001',0,'2026-11-20 03:00:00.000000','open',0.97,-31.5,3.0,'2026-11-20 02:59:57.000000','device',-3.1,-60.02,1,X'FC61386D9E57094C49D0106C48656C33803A9CA616D0F97B684E47356B2D4138','{"schema": 1, "alert_id": "00000000-0000-4000-8000-000000000001", "revision": 0, "state": "open", "device_id": "ipe-07", "label": "chainsaw", "score": 0.97, "onset_s": 12.0, "raised_s": 15.0, "clock": {"boot_id": "5d0c9e0a-0000-4000-8000-000000000001", "monotonic_s": 8123.4, "utc": "2026-11-20T03:00:00.000Z", "utc_certainty": "synced"}, "model_digest": "9f2c51d0a7b3e844", "level_dbfs": -31.5, "drill": false, "battery": {"percent": 81, "temperature_c": 31.5, "charging": true}, "position": {"latitude": -3.1, "longitude": -60.02}, "log_mel": {"n_frames": 12, "n_mels": 8, "hop_s": 0.03125, "mel_min_hz": 50.0, "mel_max_hz": 7600.0, "low": 0.0, "step": 0.37254901960784315}}');
INSERT INTO "revisions" VALUES(2,'00000000-0000-4000-8000-000000000001',1,'2026-11-20 03:00:40.000000','closed',0.99,-31.5,38.0,'2026-11-20 02:59:22.000000','device',-3.1,-60.02,0,X'2D8924575F0459C214C46F8B82F297FA9832619C167EEB63464624696D65E16C','{"schema": 1, "alert_id": "00000000-0000-4000-8000-000000000001", "revision": 1, "state": "closed", "device_id": "ipe-07", "label": "chainsaw", "score": 0.99, "onset_s": 12.0, "raised_s": 50.0, "clock": {"boot_id": "5d0c9e0a-0000-4000-8000-000000000001", "monotonic_s": 8123.4, "utc": "2026-11-20T03:00:00.000Z", "utc_certainty": "synced"}, "model_digest": "9f2c51d0a7b3e844", "level_dbfs": -31.5, "drill": false, "battery": {"percent": 81, "temperature_c": 31.5, "charging": true}, "position": {"latitude": -3.1, "longitude": -60.02}, "log_mel": null}');
INSERT INTO "revisions" VALUES(3,'00000000-0000-4000-8000-000000000002',0,'2026-11-20 03:00:40.000000','open',0.97,-31.5,3.0,'2026-11-20 02:59:57.000000','device',NULL,NULL,0,X'6DCB1233557AA18432E43956B1E734B49623CFAD2B399982907509D43A9447FC','{"schema": 1, "alert_id": "00000000-0000-4000-8000-000000000002", "revision": 0, "state": "open", "device_id": "cedro-01", "label": "engine", "score": 0.97, "onset_s": 12.0, "raised_s": 15.0, "clock": {"boot_id": "5d0c9e0a-0000-4000-8000-000000000001", "monotonic_s": 8123.4, "utc": "2026-11-20T03:00:00.000Z", "utc_certainty": "synced"}, "model_digest": "9f2c51d0a7b3e844", "level_dbfs": -31.5, "drill": true, "battery": {"percent": 81, "temperature_c": 31.5, "charging": true}, "position": null, "log_mel": null}');
CREATE INDEX alerts_by_label ON alerts (label, seq);
CREATE INDEX alerts_by_device ON alerts (device_id, seq);
CREATE INDEX heartbeats_by_device ON heartbeats (device_id, seq);
CREATE INDEX nonces_by_device ON nonces (device_id, nonce);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('alerts',2);
INSERT INTO "sqlite_sequence" VALUES('revisions',3);
INSERT INTO "sqlite_sequence" VALUES('heartbeats',1);
INSERT INTO "sqlite_sequence" VALUES('nonces',1);
COMMIT;
