# The image of every process of the mesh. docker-compose.yml names the process that a container runs.

FROM python:3.11-slim-bookworm AS packages
WORKDIR /build
COPY bootstrap.lock requirements.lock pyproject.toml ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
      --require-hashes -r bootstrap.lock
# Installs the run-time dependencies of pyproject.toml, in the versions of requirements.lock. A package that
# is missing there or has another hash ends the build. Linters and test tools are not installed.
RUN python -m venv --without-pip /opt/mycelium \
    && uv pip install --no-cache --python /opt/mycelium/bin/python --compile-bytecode --no-build \
      --require-hashes -c requirements.lock -r pyproject.toml

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 mycelium \
    && useradd --uid 10001 --gid mycelium --no-create-home --home-dir /nonexistent \
      --shell /usr/sbin/nologin mycelium
# PYTHONPATH lets a command start in any folder. PYTHONWARNINGS silences eventlet's deprecation notice, which
# every command would print.
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
# The files of a checkout with a strict umask would be unreadable to the user below.
RUN chmod -R a+rX . && python -m compileall -q .
# A number, because an orchestrator cannot tell from a name that the user is not root.
USER 10001:10001
