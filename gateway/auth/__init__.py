"""Authentication: bearer tokens, and a limit on failed logins."""
