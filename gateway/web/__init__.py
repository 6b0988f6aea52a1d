"""HTTP without routes: problems (RFC 9457), JSON bodies and the limits of a request."""
