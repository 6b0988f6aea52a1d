"""A service container that says goodbye before it drains.

Named in config.yml as SERVICE_CONTAINER_CLS. Nameko stops entrypoints first and dependencies last;
but discovery must forget an instance before it stops taking calls, and open streams must end
before Nameko waits for their workers. Extensions with a `leave` method get that chance.
"""

from __future__ import annotations

import logging

from nameko.containers import ServiceContainer

from mesh.log import Unexpected

log = logging.getLogger(__name__)

_unexpected = Unexpected()


class Container(ServiceContainer):
    def __init__(self, service_cls: type) -> None:
        logging.getLogger("nameko.containers").addFilter(_unexpected)  # adding it again changes nothing
        super().__init__(service_cls)

    def stop(self) -> None:
        if not self._died.ready() and not self._being_killed:
            for extension in self.extensions:
                leave = getattr(extension, "leave", None)
                if leave is not None:
                    try:
                        leave()
                    except Exception:
                        log.exception("%r did not leave cleanly", extension)
        super().stop()
