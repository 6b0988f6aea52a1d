-- PostgreSQL's image runs this script once, on an empty volume. Each service gets a database. The role
-- `services` owns the databases and has no other rights.
\set password `printf %s "$POSTGRES_PASSWORD"`
CREATE ROLE services LOGIN PASSWORD :'password';
CREATE DATABASE products OWNER services;
CREATE DATABASE users OWNER services;
CREATE DATABASE orders OWNER services;
CREATE DATABASE notifications OWNER services;
-- The image has given the superuser the same password. Without a password the superuser cannot log in over
-- the network. `docker compose exec postgres psql -U postgres` uses the socket and still works.
ALTER ROLE CURRENT_USER PASSWORD NULL;
