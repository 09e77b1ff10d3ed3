"""Where jobs outlive the scheduler: one protocol, a version in memory, one in SQLite."""
