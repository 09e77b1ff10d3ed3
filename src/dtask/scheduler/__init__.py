"""The process that owns the core: its loop, its HTTP server, its log."""
