"""The job half of the core: what waits, what runs, what runs again, and why."""
