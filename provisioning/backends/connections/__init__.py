"""Connections to one server: the pool, its slots, the circuit breaker and sessions."""
