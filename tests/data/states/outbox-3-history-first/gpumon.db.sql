PRAGMA application_id = 1735421294;
PRAGMA user_version = 3;
PRAGMA page_size = 4096;
BEGIN TRANSACTION;
CREATE TABLE alerts (key TEXT PRIMARY KEY, alert TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "alerts" VALUES('0ce807c91234490e','{"key":"0ce807c91234490e","group":"old","rule":"Fires","state":"firing","labels":[["alertname","Fires"],["severity","critical"]],"annotations":{"summary":"It fires","action":"Wait"},"value":7.0,"active_at_ms":1795333619575,"fired_at_ms":1795333619575,"keep_firing_since_ms":null}');
INSERT INTO "alerts" VALUES('a03fbc7b59e616dd','{"key":"a03fbc7b59e616dd","group":"old","rule":"Waits","state":"pending","labels":[["alertname","Waits"],["severity","critical"]],"annotations":{"summary":"It waits","action":"Wait"},"value":1.0,"active_at_ms":1795333619575,"fired_at_ms":null,"keep_firing_since_ms":null}');
CREATE TABLE deliveries (
            event_id TEXT NOT NULL REFERENCES transitions (id), receiver TEXT NOT NULL, key TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('firing', 'resolved')),
            state TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'superseded', 'dead')),
            attempts INTEGER NOT NULL, next_attempt_ms INTEGER NOT NULL, last_error TEXT NOT NULL,
            changed_ms INTEGER NOT NULL, failing_since_ms INTEGER, PRIMARY KEY (event_id, receiver));
INSERT INTO "deliveries" VALUES('27e2be4dd0e9a982589fcebd','ops','0ce807c91234490e','firing','queued',6,1795333667135,'A Connection error occurred sending JSON notification to 127.0.0.1.',1795333648758,1795333626306);
CREATE TABLE groups (
            receiver TEXT NOT NULL, key TEXT NOT NULL, last_sent_ms INTEGER NOT NULL, reminders INTEGER NOT NULL,
            PRIMARY KEY (receiver, key)) WITHOUT ROWID;
CREATE TABLE silences (id TEXT PRIMARY KEY, silence TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "silences" VALUES('63cbe90b-71df-4479-8593-71fd5ad37c8d','{"id":"63cbe90b-71df-4479-8593-71fd5ad37c8d","matchers":[["alertname","=","Waits"]],"starts_at_ms":1795333649639,"ends_at_ms":1795420049000,"created_by":"somebody","comment":"to be kept","updated_at_ms":1795333649639}');
CREATE TABLE transitions (
            id TEXT PRIMARY KEY, key TEXT NOT NULL, at_ms INTEGER NOT NULL,
            before TEXT NOT NULL, after TEXT NOT NULL, reason TEXT NOT NULL, alert TEXT NOT NULL);
INSERT INTO "transitions" VALUES('27e2be4dd0e9a982589fcebd','0ce807c91234490e',1795333619575,'inactive','firing','','{"key":"0ce807c91234490e","group":"old","rule":"Fires","state":"firing","labels":[["alertname","Fires"],["severity","critical"]],"annotations":{"summary":"It fires","action":"Wait"},"value":7.0,"active_at_ms":1795333619575,"fired_at_ms":1795333619575,"keep_firing_since_ms":null}');
INSERT INTO "transitions" VALUES('dc6dca8f2e1df3fec13f75d2','a03fbc7b59e616dd',1795333619575,'inactive','pending','','{"key":"a03fbc7b59e616dd","group":"old","rule":"Waits","state":"pending","labels":[["alertname","Waits"],["severity","critical"]],"annotations":{"summary":"It waits","action":"Wait"},"value":1.0,"active_at_ms":1795333619575,"fired_at_ms":null,"keep_firing_since_ms":null}');
CREATE INDEX transitions_at ON transitions (at_ms);
CREATE INDEX deliveries_queued ON deliveries (receiver, key) WHERE state = 'queued';
COMMIT;
