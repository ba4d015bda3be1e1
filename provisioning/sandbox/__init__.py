"""Sandboxes: what is loaded into them and how they come into being (contract section 8)."""
