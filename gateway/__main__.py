"""`python -m gateway`: serve until SIGTERM or SIGINT, then drain and exit 0."""

from __future__ import annotations

import logging
import sys

from .server import Server, configure, configure_logging, listen
from .settings import SettingsError, load_settings


def main() -> int:
    configure_logging()
    try:
        settings = load_settings()
        listening = listen(settings)
    except (SettingsError, OSError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    host, port = listening.getsockname()[:2]
    settings = settings.model_copy(update={"GATEWAY_PORT": port})
    logging.getLogger("gateway").info("listening on %s port %d", host, port)
    # Each way imports what it needs: the parent of workers has no use for the application.
    if settings.GATEWAY_WORKERS > 1:
        from . import workers

        return workers.run(settings, listening)

    from .app import create_app

    app = create_app(settings)
    Server(configure(settings, app), app.state.lifecycle.drain).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
