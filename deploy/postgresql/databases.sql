-- Run once, by PostgreSQL's image, on an empty volume: one database for each service, owned by a
-- role that can do nothing else.
\set password `printf %s "$POSTGRES_PASSWORD"`
CREATE ROLE services LOGIN PASSWORD :'password';
CREATE DATABASE products OWNER services;
CREATE DATABASE users OWNER services;
CREATE DATABASE orders OWNER services;
CREATE DATABASE notifications OWNER services;
-- The superuser got the same password from the image. Without one nobody logs in as it over the
-- network; `docker compose exec postgres psql -U postgres` goes through the socket.
ALTER ROLE CURRENT_USER PASSWORD NULL;
