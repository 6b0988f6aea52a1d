"""The `mycelium` command: starts the mesh and its private servers, inspects and repairs what runs."""

import warnings

# eventlet prints a long deprecation notice when it is imported, and the services' stores import it.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
