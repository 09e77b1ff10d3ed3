"""How fast it is on this machine: load over real sockets, and a bare server beside it."""
