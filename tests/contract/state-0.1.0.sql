BEGIN TRANSACTION;
CREATE TABLE admin_secrets (
	id BIGINT NOT NULL, 
	backend VARCHAR(32) NOT NULL, 
	server VARCHAR(64) NOT NULL, 
	secret TEXT, 
	pending TEXT, 
	rotated_at BIGINT, 
	claim_token BIGINT NOT NULL, 
	claim_owner VARCHAR(128), 
	claim_until BIGINT, 
	attempts BIGINT NOT NULL, 
	not_before BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0013');
CREATE TABLE callbacks (
	id BIGINT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	url TEXT NOT NULL, 
	job_url TEXT NOT NULL, 
	failure TEXT, 
	claim_token BIGINT NOT NULL, 
	claim_owner VARCHAR(128), 
	claim_until BIGINT, 
	attempts BIGINT NOT NULL, 
	not_before BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE credentials (
	id BIGINT NOT NULL, 
	backend VARCHAR(32) NOT NULL, 
	type VARCHAR(32) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	slot VARCHAR(160), 
	project_id VARCHAR(64) NOT NULL, 
	project_name VARCHAR(255) NOT NULL, 
	token_id VARCHAR(64) NOT NULL, 
	token_description VARCHAR(255) NOT NULL, 
	server VARCHAR(64) NOT NULL, 
	user_name VARCHAR(64) NOT NULL, 
	object_name VARCHAR(128) NOT NULL, 
	secret TEXT NOT NULL, 
	login_id BIGINT, 
	created_at BIGINT NOT NULL, 
	touched_at BIGINT NOT NULL, 
	expires_at BIGINT, 
	dropped_at BIGINT, 
	job_id BIGINT, 
	failure TEXT, 
	claim_token BIGINT NOT NULL, 
	claim_owner VARCHAR(128), 
	claim_until BIGINT, 
	attempts BIGINT NOT NULL, 
	not_before BIGINT NOT NULL, password_ends_at BIGINT, public_key TEXT, private_key TEXT, port BIGINT, protected_until BIGINT, attend_at BIGINT, warned_at BIGINT, noted_end BIGINT, grace_until BIGINT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(login_id) REFERENCES logins (id), 
	UNIQUE (slot)
);
INSERT INTO "credentials" VALUES(1,'mysql','sandbox','active','1:mysql:sandbox','572','Project 572','1','test','default','apbg_user_7','apbg_sand_572_1','gAAAAABrC_ZSyQ5UGhGYwtJRDHqa3VElTzdKfVzMlEgrvH9w0gFeWklFW2glVHsk9pA6jj7CxJ6tGbDzsjqQQLtGKaYH3RB-_A-aKLFLx2ax-M8Rl9vIRoQ=',1,1795946066192,1795946067000,4102444800000,NULL,NULL,NULL,1,'vm:15951',NULL,0,0,NULL,NULL,NULL,NULL,NULL,4102358400000,NULL,NULL,NULL);
INSERT INTO "credentials" VALUES(2,'mysql','transformations','dropped',NULL,'572','Project 572','1','test','default','apbg_tran_572_2','apbg_tran_572_2','',NULL,1795946066244,1795946066000,1796550866000,1795946066485,NULL,NULL,2,'vm:15948',NULL,0,0,NULL,NULL,NULL,NULL,NULL,1796464466000,NULL,NULL,NULL);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	time BIGINT NOT NULL, 
	action VARCHAR(32) NOT NULL, 
	project_id VARCHAR(64) NOT NULL, 
	token_id VARCHAR(64) NOT NULL, 
	run_id VARCHAR(255) NOT NULL, 
	job_id BIGINT, 
	credentials_id BIGINT, 
	worker VARCHAR(128) NOT NULL, 
	duration BIGINT, 
	detail JSON, 
	failure TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "events" VALUES(1,1795946066168,'token.created','572','operator','',NULL,NULL,'vm:15835',NULL,'{"id": "1", "description": "test", "features": [], "person": "7", "limits": {}}',NULL);
INSERT INTO "events" VALUES(2,1795946066234,'credentials.created','572','1','',NULL,1,'vm:15951',42,'{"backend": "mysql", "type": "sandbox", "before": {"state": "creating"}, "after": {"state": "active"}}',NULL);
INSERT INTO "events" VALUES(3,1795946066255,'credentials.created','572','1','',NULL,2,'vm:15951',11,'{"backend": "mysql", "type": "transformations", "before": {"state": "creating"}, "after": {"state": "active"}}',NULL);
INSERT INTO "events" VALUES(4,1795946066266,'credentials.extended','572','1','',NULL,1,'vm:15951',NULL,'{"before": {"touch": 1795946066, "expiration": "2026-12-13T09:54:26+00:00"}, "after": {"touch": 1795946067, "expiration": "2026-12-13T09:54:27+00:00"}}',NULL);
INSERT INTO "events" VALUES(5,1795946066284,'job.accepted','572','1','2',1,1,'vm:15951',NULL,NULL,NULL);
INSERT INTO "events" VALUES(6,1795946066421,'job.started','572','1','2',1,1,'vm:15948',28,'{"attempt": 1}',NULL);
INSERT INTO "events" VALUES(7,1795946066434,'sessions.killed','572','1','2',1,1,'vm:15948',41,'{"sessions": 0}',NULL);
INSERT INTO "events" VALUES(8,1795946066436,'job.succeeded','572','1','2',1,1,'vm:15948',43,NULL,NULL);
INSERT INTO "events" VALUES(9,1795946066450,'job.accepted','572','1','4',3,2,'vm:15951',NULL,NULL,NULL);
INSERT INTO "events" VALUES(10,1795946066456,'credentials.drop_requested','572','1','',3,2,'vm:15951',NULL,'{"before": {"state": "active"}, "after": {"state": "dropping"}}',NULL);
INSERT INTO "events" VALUES(11,1795946066464,'job.started','572','1','4',3,2,'vm:15948',3,'{"attempt": 1}',NULL);
INSERT INTO "events" VALUES(12,1795946066485,'credentials.dropped','572','1','',3,2,'vm:15948',NULL,'{"before": {"state": "dropping"}, "after": {"state": "dropped"}}',NULL);
INSERT INTO "events" VALUES(13,1795946066490,'job.succeeded','572','1','4',3,2,'vm:15948',29,NULL,NULL);
CREATE TABLE "jobs" (
	id BIGINT NOT NULL, 
	run_id TEXT NOT NULL, 
	command VARCHAR(16) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	params JSON NOT NULL, 
	result JSON NOT NULL, 
	credentials_id BIGINT, 
	slot VARCHAR(160) NOT NULL, 
	project_id VARCHAR(64) NOT NULL, 
	project_name VARCHAR(255) NOT NULL, 
	token_id VARCHAR(64) NOT NULL, 
	token_description VARCHAR(255) NOT NULL, 
	created_at BIGINT NOT NULL, 
	started_at BIGINT, 
	ended_at BIGINT, 
	process_host VARCHAR(128), 
	process_pid BIGINT, 
	error VARCHAR(32), 
	error_note VARCHAR(64), 
	failure TEXT, 
	claim_token BIGINT NOT NULL, 
	claim_owner VARCHAR(128), 
	claim_until BIGINT, 
	attempts BIGINT NOT NULL, 
	not_before BIGINT NOT NULL, 
	backend VARCHAR(32) NOT NULL, 
	request TEXT, 
	progress JSON NOT NULL, 
	terminated_by JSON, parallel_limit BIGINT, place BIGINT, 
	PRIMARY KEY (id)
);
INSERT INTO "jobs" VALUES(1,'2','kill','success','{"backend": "mysql", "id": "1"}','{"status": "ok"}',1,'1:mysql:sandbox','572','Project 572','1','test',1795946066277,1795946066393,1795946066436,'vm',15948,NULL,NULL,NULL,1,'vm:15948',NULL,1,0,'mysql',NULL,'[]',NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(3,'4','delete','success','{"backend": "mysql", "id": "2"}','{"status": "ok"}',2,'1:mysql:transformations','572','Project 572','1','test',1795946066449,1795946066461,1795946066486,'vm',15948,NULL,NULL,NULL,1,'vm:15948',NULL,1,0,'mysql',NULL,'[]',NULL,NULL,NULL);
CREATE TABLE "local_tokens" (
	id BIGINT NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	description VARCHAR(255) NOT NULL, 
	project_id VARCHAR(64) NOT NULL, 
	project_name VARCHAR(255) NOT NULL, 
	person_id VARCHAR(64), 
	features JSON NOT NULL, 
	created_at BIGINT NOT NULL, 
	revoked_at BIGINT, 
	limits JSON NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (digest)
);
INSERT INTO "local_tokens" VALUES(1,'d1e894bbf8a2c57d36c0fd298d084a140ca6924e939fbf68784771ea413769cb','test','572','Project 572','7','[]',1795946066167,NULL,'{}');
CREATE TABLE logins (
	id BIGINT NOT NULL, 
	server VARCHAR(64) NOT NULL, 
	person VARCHAR(80) NOT NULL, 
	user_name VARCHAR(64) NOT NULL, 
	secret TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "logins" VALUES(1,'default','7','apbg_user_7','gAAAAABrC_ZSyQ5UGhGYwtJRDHqa3VElTzdKfVzMlEgrvH9w0gFeWklFW2glVHsk9pA6jj7CxJ6tGbDzsjqQQLtGKaYH3RB-_A-aKLFLx2ax-M8Rl9vIRoQ=');
CREATE TABLE manage_tokens (
	id BIGINT NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	description VARCHAR(255) NOT NULL, 
	created_at BIGINT NOT NULL, 
	revoked_at BIGINT, 
	PRIMARY KEY (id), 
	UNIQUE (digest)
);
CREATE TABLE notices (
	id INTEGER NOT NULL, 
	credentials_id BIGINT NOT NULL, 
	backend VARCHAR(32) NOT NULL, 
	lead BIGINT NOT NULL, 
	ends_at BIGINT NOT NULL, 
	created_at BIGINT NOT NULL, 
	failure TEXT, 
	claim_token BIGINT NOT NULL, 
	claim_owner VARCHAR(128), 
	claim_until BIGINT, 
	attempts BIGINT NOT NULL, 
	not_before BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE quotas (
	project_id VARCHAR(64) NOT NULL, 
	limits JSON NOT NULL, 
	PRIMARY KEY (project_id)
);
CREATE TABLE request_keys (
	digest VARCHAR(64) NOT NULL, 
	body VARCHAR(64) NOT NULL, 
	job_id BIGINT NOT NULL, 
	created_at BIGINT NOT NULL, 
	PRIMARY KEY (digest)
);
CREATE TABLE sequences (
	name VARCHAR(32) NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "sequences" VALUES('credentials',100);
INSERT INTO "sequences" VALUES('ticket',4);
INSERT INTO "sequences" VALUES('token',1);
INSERT INTO "sequences" VALUES('manage token',0);
INSERT INTO "sequences" VALUES('server',0);
INSERT INTO "sequences" VALUES('admin secret',0);
INSERT INTO "sequences" VALUES('clock',0);
INSERT INTO "sequences" VALUES('confirmed',0);
CREATE TABLE servers (
	id BIGINT NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	port BIGINT NOT NULL, 
	user_name VARCHAR(128) NOT NULL, 
	secret TEXT NOT NULL, 
	"database" VARCHAR(64), 
	type VARCHAR(32), 
	mode VARCHAR(16) NOT NULL, 
	alive BOOLEAN NOT NULL, 
	created_at BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE "settings" (
	name VARCHAR(32) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "settings" VALUES('code','apbg');
CREATE UNIQUE INDEX ux_logins_person ON logins (server, person);
CREATE INDEX ix_credentials_login ON credentials (login_id);
CREATE INDEX ix_credentials_state ON credentials (state, expires_at);
CREATE INDEX ix_jobs_slot ON jobs (slot, status);
CREATE INDEX ix_jobs_status ON jobs (status, id);
CREATE UNIQUE INDEX ux_credentials_port ON credentials (server, port);
CREATE INDEX ix_jobs_project ON jobs (project_id, id);
CREATE INDEX ix_events_job ON events (job_id, id);
CREATE INDEX ix_events_credentials ON events (credentials_id, id);
CREATE INDEX ix_events_project ON events (project_id, id);
CREATE INDEX ix_jobs_turns ON jobs (status, project_id, id);
CREATE INDEX ix_jobs_served ON jobs (project_id, started_at);
CREATE UNIQUE INDEX ux_jobs_place ON jobs (project_id, place);
CREATE INDEX ix_credentials_dropped ON credentials (dropped_at);
CREATE INDEX ix_events_time ON events (time);
CREATE INDEX ix_callbacks_state ON callbacks (state, not_before);
CREATE INDEX ix_request_keys_created ON request_keys (created_at);
CREATE INDEX ix_credentials_expiry ON credentials (state, backend, server, expires_at);
CREATE INDEX ix_jobs_unfinished ON jobs (ended_at, backend, not_before);
CREATE INDEX ix_credentials_project ON credentials (project_id, state);
CREATE INDEX ix_credentials_attend ON credentials (state, attend_at);
CREATE INDEX ix_notices_not_before ON notices (not_before);
CREATE INDEX ix_events_token ON events (token_id, id);
CREATE INDEX ix_events_run ON events (run_id, id);
CREATE INDEX ix_events_action ON events (action, id);
CREATE UNIQUE INDEX ux_servers_address ON servers (host, port);
CREATE UNIQUE INDEX ux_admin_secrets_server ON admin_secrets (backend, server);
COMMIT;
