"""The command line: starts the mesh and its private servers, shows and mends what runs."""

import warnings

# eventlet, which comes with the services' stores, announces its retirement at length.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
