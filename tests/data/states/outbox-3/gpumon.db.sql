PRAGMA application_id = 1735421294;
PRAGMA user_version = 3;
PRAGMA page_size = 4096;
BEGIN TRANSACTION;
CREATE TABLE alerts (key TEXT PRIMARY KEY, alert TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "alerts" VALUES('0ce807c91234490e','{"key":"0ce807c91234490e","group":"old","rule":"Fires","state":"firing","labels":[["alertname","Fires"],["severity","critical"]],"annotations":{"summary":"It fires","action":"Wait"},"value":7.0,"active_at_ms":1795333620387,"fired_at_ms":1795333620387,"keep_firing_since_ms":null}');
INSERT INTO "alerts" VALUES('a03fbc7b59e616dd','{"key":"a03fbc7b59e616dd","group":"old","rule":"Waits","state":"pending","labels":[["alertname","Waits"],["severity","critical"]],"annotations":{"summary":"It waits","action":"Wait"},"value":1.0,"active_at_ms":1795333620387,"fired_at_ms":null,"keep_firing_since_ms":null}');
CREATE TABLE deliveries (
            event_id TEXT NOT NULL REFERENCES transitions (id), receiver TEXT NOT NULL, key TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('firing', 'resolved')),
            state TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'superseded', 'dead')),
            attempts INTEGER NOT NULL, next_attempt_ms INTEGER NOT NULL, last_error TEXT NOT NULL,
            changed_ms INTEGER NOT NULL, failing_since_ms INTEGER, PRIMARY KEY (event_id, receiver));
INSERT INTO "deliveries" VALUES('2994499135cd00bad4a0efc1','ops','0ce807c91234490e','firing','queued',6,1795333666092,'A Connection error occurred sending JSON notification to 127.0.0.1.',1795333648574,1795333627254);
CREATE TABLE groups (
            receiver TEXT NOT NULL, key TEXT NOT NULL, last_sent_ms INTEGER NOT NULL, reminders INTEGER NOT NULL,
            PRIMARY KEY (receiver, key)) WITHOUT ROWID;
CREATE TABLE silences (id TEXT PRIMARY KEY, silence TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "silences" VALUES('581204a6-9b34-458c-ae75-e87c5cd09c84','{"id":"581204a6-9b34-458c-ae75-e87c5cd09c84","matchers":[["alertname","=","Waits"]],"starts_at_ms":1795333650458,"ends_at_ms":1795420050000,"created_by":"somebody","comment":"to be kept","updated_at_ms":1795333650458}');
CREATE TABLE transitions (
            id TEXT PRIMARY KEY, key TEXT NOT NULL, at_ms INTEGER NOT NULL,
            before TEXT NOT NULL, after TEXT NOT NULL, reason TEXT NOT NULL, alert TEXT NOT NULL);
INSERT INTO "transitions" VALUES('2994499135cd00bad4a0efc1','0ce807c91234490e',1795333620387,'inactive','firing','','{"key":"0ce807c91234490e","group":"old","rule":"Fires","state":"firing","labels":[["alertname","Fires"],["severity","critical"]],"annotations":{"summary":"It fires","action":"Wait"},"value":7.0,"active_at_ms":1795333620387,"fired_at_ms":1795333620387,"keep_firing_since_ms":null}');
INSERT INTO "transitions" VALUES('990864101566990e4c4240ee','a03fbc7b59e616dd',1795333620387,'inactive','pending','','{"key":"a03fbc7b59e616dd","group":"old","rule":"Waits","state":"pending","labels":[["alertname","Waits"],["severity","critical"]],"annotations":{"summary":"It waits","action":"Wait"},"value":1.0,"active_at_ms":1795333620387,"fired_at_ms":null,"keep_firing_since_ms":null}');
CREATE INDEX transitions_at ON transitions (at_ms);
CREATE INDEX deliveries_queued ON deliveries (receiver, key) WHERE state = 'queued';
COMMIT;
