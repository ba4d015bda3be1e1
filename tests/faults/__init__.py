"""What breaks, and what must not: kills, outages, hung servers, late messages, wrong clocks.

A test that belongs to a row of the table of `make chaos` says so with one line,
``@pytest.mark.fault(row="F7")``, or ``pytestmark = pytest.mark.fault(row="F7")`` for a whole
module; ``quick=False`` leaves it out of the quick run. The rows are named in `chaos`. The counters
and the slowest request come by themselves, from the fixture ``ledger`` and the oracle or from
``judge``. What else a test wants to tell, it tells the fixture ``chaos_row``: its ``rounds``, its
``kills`` and, with ``note("ready after {:.1f} s", seconds)``, further figures.
"""
