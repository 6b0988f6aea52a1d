BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0005');
CREATE TABLE commands (
	command_id VARCHAR(255) NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	answer JSON NOT NULL, 
	executed_at DATETIME NOT NULL, 
	PRIMARY KEY (command_id)
);
INSERT INTO "commands" VALUES('create-1','27cf993e66ba6d337d2e442aacf8f3032de0d83c75cb5688a8bca280997e5a99','{"id":"P001","name":"Laptop","price_minor":120050,"currency":"USD","stock":10,"version":1}','2026-11-30 19:44:49.606999');
CREATE TABLE inbox (
	consumer VARCHAR(100) NOT NULL, 
	event_id VARCHAR(36) NOT NULL, 
	received_at DATETIME NOT NULL, 
	PRIMARY KEY (consumer, event_id)
);
INSERT INTO "inbox" VALUES('products.on_order_cancelled','00000000-0000-4000-8000-000000000001','2026-11-30 19:44:49.610465');
CREATE TABLE "outbox" (
	seq INTEGER NOT NULL, 
	first_event_id VARCHAR(36) NOT NULL, 
	type VARCHAR(100) NOT NULL, 
	awaited BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, 
	claimed_by VARCHAR(36), 
	claimed_until DATETIME, 
	sent_at DATETIME, 
	aggregate_ids JSON NOT NULL, 
	envelopes JSON NOT NULL, 
	PRIMARY KEY (seq), 
	UNIQUE (first_event_id)
);
INSERT INTO "outbox" VALUES(1,'d1caf549-85a7-4585-8994-3de956f078f3','product_created',0,'2026-11-30 19:44:49.608025',NULL,NULL,NULL,'["P001"]','[{"event_id":"d1caf549-85a7-4585-8994-3de956f078f3","type":"product_created","version":1,"occurred_at":"2026-11-30T19:44:49.606949Z","aggregate_id":"P001","aggregate_version":1,"data":{"product_id":"P001","name":"Laptop","price_minor":120050,"currency":"USD","stock":10}}]');
CREATE TABLE products (
	id VARCHAR(64) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	price_minor BIGINT NOT NULL, 
	currency VARCHAR(3) NOT NULL, 
	stock INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT price_not_negative CHECK (price_minor >= 0), 
	CONSTRAINT stock_not_negative CHECK (stock >= 0)
);
INSERT INTO "products" VALUES('P001','Laptop',120050,'USD',10,1);
CREATE TABLE reservations (
	order_id VARCHAR(64) NOT NULL, 
	status VARCHAR(10) NOT NULL, 
	lines JSON NOT NULL, 
	currency VARCHAR(3), 
	refusal JSON, 
	decided_at DATETIME NOT NULL, 
	PRIMARY KEY (order_id)
);
CREATE INDEX commands_by_age ON commands (executed_at);
CREATE INDEX inbox_by_age ON inbox (received_at);
CREATE INDEX outbox_unsent ON outbox (seq) WHERE sent_at IS NULL;
CREATE INDEX outbox_claimed ON outbox (claimed_by) WHERE sent_at IS NULL;
COMMIT;
