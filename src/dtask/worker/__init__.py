"""The worker's side: heartbeats, the agent with its listener, and the tasks it runs."""
