"""The servers of one backend: placement, and the admin logins on them."""
