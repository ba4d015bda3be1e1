"""The HTTP front: parse, authenticate, validate, answer. It knows no SQL and no engine."""
