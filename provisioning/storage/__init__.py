"""The Keboola Storage API as the service uses it (contract section 12)."""
