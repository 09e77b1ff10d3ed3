"""What dtask decides: pure state machines, without clock, randomness, I/O or logging."""
