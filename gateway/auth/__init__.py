"""Tokens and the limits on logins."""
