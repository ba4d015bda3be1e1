"""What workers run: jobs, the sweep, expiry in batches and retention."""
