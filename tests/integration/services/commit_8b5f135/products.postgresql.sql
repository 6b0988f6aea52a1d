SELECT pg_catalog.set_config('search_path', '', false);
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.commands (
    command_id character varying(255) NOT NULL,
    fingerprint character varying(64) NOT NULL,
    answer json NOT NULL,
    executed_at timestamp with time zone NOT NULL
);
CREATE TABLE public.inbox (
    consumer character varying(100) NOT NULL,
    event_id character varying(36) NOT NULL,
    received_at timestamp with time zone NOT NULL
);
CREATE TABLE public.outbox (
    seq bigint NOT NULL,
    first_event_id character varying(36) NOT NULL,
    type character varying(100) NOT NULL,
    awaited boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    claimed_by character varying(36),
    claimed_until timestamp with time zone,
    sent_at timestamp with time zone,
    aggregate_ids text[] NOT NULL,
    envelopes json NOT NULL
);
ALTER TABLE ONLY public.outbox ALTER COLUMN envelopes SET COMPRESSION lz4;
CREATE SEQUENCE public.outbox_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.outbox_seq_seq OWNED BY public.outbox.seq;
CREATE TABLE public.products (
    id character varying(64) NOT NULL,
    name character varying(200) NOT NULL,
    price_minor bigint NOT NULL,
    currency character varying(3) NOT NULL,
    stock integer NOT NULL,
    version integer NOT NULL,
    CONSTRAINT price_not_negative CHECK ((price_minor >= 0)),
    CONSTRAINT stock_not_negative CHECK ((stock >= 0))
);
CREATE TABLE public.reservations (
    order_id character varying(64) NOT NULL,
    status character varying(10) NOT NULL,
    lines json NOT NULL,
    currency character varying(3),
    refusal json,
    decided_at timestamp with time zone NOT NULL
);
ALTER TABLE ONLY public.outbox ALTER COLUMN seq SET DEFAULT nextval('public.outbox_seq_seq'::regclass);
INSERT INTO public.alembic_version VALUES ('0005');
INSERT INTO public.commands VALUES ('create-1', '27cf993e66ba6d337d2e442aacf8f3032de0d83c75cb5688a8bca280997e5a99', '{"id":"P001","name":"Laptop","price_minor":120050,"currency":"USD","stock":10,"version":1}', '2026-11-30 19:44:55.563976+00');
INSERT INTO public.inbox VALUES ('products.on_order_cancelled', '00000000-0000-4000-8000-000000000001', '2026-11-30 19:44:55.56747+00');
INSERT INTO public.outbox VALUES (1, '2043f850-8f56-4c34-89c1-19dab8a2e2a0', 'product_created', false, '2026-11-30 19:44:55.56676+00', NULL, NULL, NULL, '{P001}', '[{"event_id":"2043f850-8f56-4c34-89c1-19dab8a2e2a0","type":"product_created","version":1,"occurred_at":"2026-11-30T19:44:55.563904Z","aggregate_id":"P001","aggregate_version":1,"data":{"product_id":"P001","name":"Laptop","price_minor":120050,"currency":"USD","stock":10}}]');
INSERT INTO public.products VALUES ('P001', 'Laptop', 120050, 'USD', 10, 1);
SELECT pg_catalog.setval('public.outbox_seq_seq', 1, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.commands
    ADD CONSTRAINT commands_pkey PRIMARY KEY (command_id);
ALTER TABLE ONLY public.inbox
    ADD CONSTRAINT inbox_pkey PRIMARY KEY (consumer, event_id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_event_id_key UNIQUE (first_event_id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.products
    ADD CONSTRAINT products_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.reservations
    ADD CONSTRAINT reservations_pkey PRIMARY KEY (order_id);
CREATE INDEX commands_by_age ON public.commands USING btree (executed_at);
CREATE INDEX inbox_by_age ON public.inbox USING btree (received_at);
CREATE INDEX outbox_claimed ON public.outbox USING btree (claimed_by) WHERE (sent_at IS NULL);
CREATE INDEX outbox_unsent ON public.outbox USING btree (seq) WHERE (sent_at IS NULL);
