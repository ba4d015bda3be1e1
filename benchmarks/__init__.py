"""`python -m benchmarks`: the service against raw SQL on the same machine, in the same run.

One module for each measure or small group of them; `docs/benchmarks.md` is the result.
"""
