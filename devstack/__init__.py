"""Private servers and the service's own processes, for `make run`, the tests and the benchmarks.

Production does not use this package: there the servers exist already and the environment names
them.
"""
