"""Credentials from their creation to their end."""
