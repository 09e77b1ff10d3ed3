"""The HTTP API of the scheduler: one noun a file."""
