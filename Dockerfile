# One image for every process of the mesh; docker-compose.yml says which one a container runs.

FROM python:3.11-slim-bookworm AS packages
WORKDIR /build
COPY bootstrap.lock requirements.lock pyproject.toml ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
      --require-hashes -r bootstrap.lock
# What pyproject.toml needs at run time, in the versions and with the hashes of the one lock: a
# package that is not in it, or has another hash, ends the build. Linters and tests stay outside.
RUN python -m venv --without-pip /opt/mycelium \
    && uv pip install --no-cache --python /opt/mycelium/bin/python --compile-bytecode --no-build \
      --require-hashes -c requirements.lock -r pyproject.toml

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 mycelium \
    && useradd --uid 10001 --gid mycelium --no-create-home --home-dir /nonexistent \
      --shell /usr/sbin/nologin mycelium
# PYTHONPATH, so that our packages are found from wherever a command is started. Silenced is
# eventlet's long farewell, printed by every command.
ENV PATH=/opt/mycelium/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/srv/mycelium \
    PYTHONUNBUFFERED=1 \
    PYTHONWARNINGS=ignore::Warning:nameko.extensions
WORKDIR /srv/mycelium
COPY --from=packages /opt/mycelium /opt/mycelium
COPY config.yml ./
COPY gateway gateway
COPY nameko_mesh nameko_mesh
COPY mycelium mycelium
COPY protos protos
COPY services services
# A checkout made under a strict umask would be unreadable to the user below.
RUN chmod -R a+rX . && python -m compileall -q .
# A number, so that an orchestrator can see for itself that it is not root.
USER 10001:10001
