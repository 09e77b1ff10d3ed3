"""How an attempt is run: as a process."""
