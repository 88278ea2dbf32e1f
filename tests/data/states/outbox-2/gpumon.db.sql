PRAGMA application_id = 1735421294;
PRAGMA user_version = 2;
PRAGMA page_size = 4096;
BEGIN TRANSACTION;
CREATE TABLE alerts (key TEXT PRIMARY KEY, alert TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "alerts" VALUES('0ce807c91234490e','{"key":"0ce807c91234490e","group":"old","rule":"Fires","state":"firing","labels":[["alertname","Fires"],["severity","critical"]],"annotations":{"summary":"It fires","action":"Wait"},"value":7.0,"active_at_ms":1795333618703,"fired_at_ms":1795333618703,"keep_firing_since_ms":null}');
INSERT INTO "alerts" VALUES('a03fbc7b59e616dd','{"key":"a03fbc7b59e616dd","group":"old","rule":"Waits","state":"pending","labels":[["alertname","Waits"],["severity","critical"]],"annotations":{"summary":"It waits","action":"Wait"},"value":1.0,"active_at_ms":1795333618703,"fired_at_ms":null,"keep_firing_since_ms":null}');
CREATE TABLE deliveries (
            event_id TEXT NOT NULL REFERENCES transitions (id), receiver TEXT NOT NULL, key TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('firing', 'resolved')),
            state TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'superseded', 'dead')),
            attempts INTEGER NOT NULL, next_attempt_ms INTEGER NOT NULL, last_error TEXT NOT NULL,
            changed_ms INTEGER NOT NULL, PRIMARY KEY (event_id, receiver));
INSERT INTO "deliveries" VALUES('d92fa7bbfeafe45ae5f7d3fc','ops','0ce807c91234490e','firing','queued',6,1795333666835,'A Connection error occurred sending JSON notification to 127.0.0.1.',1795333646910);
CREATE TABLE groups (
            receiver TEXT NOT NULL, key TEXT NOT NULL, last_sent_ms INTEGER NOT NULL, reminders INTEGER NOT NULL,
            PRIMARY KEY (receiver, key)) WITHOUT ROWID;
CREATE TABLE silences (id TEXT PRIMARY KEY, silence TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "silences" VALUES('d55d67e7-e6a4-4fe9-93ff-63732a7a1600','{"id":"d55d67e7-e6a4-4fe9-93ff-63732a7a1600","matchers":[["alertname","=","Waits"]],"starts_at_ms":1795333648767,"ends_at_ms":1795420048000,"created_by":"somebody","comment":"to be kept","updated_at_ms":1795333648767}');
CREATE TABLE transitions (
            id TEXT PRIMARY KEY, key TEXT NOT NULL, at_ms INTEGER NOT NULL,
            before TEXT NOT NULL, after TEXT NOT NULL, reason TEXT NOT NULL, alert TEXT NOT NULL);
INSERT INTO "transitions" VALUES('d92fa7bbfeafe45ae5f7d3fc','0ce807c91234490e',1795333618703,'inactive','firing','','{"key":"0ce807c91234490e","group":"old","rule":"Fires","state":"firing","labels":[["alertname","Fires"],["severity","critical"]],"annotations":{"summary":"It fires","action":"Wait"},"value":7.0,"active_at_ms":1795333618703,"fired_at_ms":1795333618703,"keep_firing_since_ms":null}');
INSERT INTO "transitions" VALUES('9bca3aa9d137ab68d15e8495','a03fbc7b59e616dd',1795333618703,'inactive','pending','','{"key":"a03fbc7b59e616dd","group":"old","rule":"Waits","state":"pending","labels":[["alertname","Waits"],["severity","critical"]],"annotations":{"summary":"It waits","action":"Wait"},"value":1.0,"active_at_ms":1795333618703,"fired_at_ms":null,"keep_firing_since_ms":null}');
CREATE INDEX transitions_at ON transitions (at_ms);
CREATE INDEX deliveries_queued ON deliveries (receiver, key) WHERE state = 'queued';
COMMIT;
