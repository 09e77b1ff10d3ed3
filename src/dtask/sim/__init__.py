"""Deterministic simulation: the real core under virtual time, with everything going wrong.

A heap of (time, sequence, action) stands in for the event loop. Workers run the real state
machine of their tasks, the scheduler is a real Cluster, and the network, the machines and the
clocks misbehave as one seed says. No asyncio, no threads, no system clock: the same seed is the
same run, event by event. After every event a ledger that works by the rules, the slow way, says
what must be so.
"""

from typing import Final

#: Virtual seconds with faults, unless asked otherwise.
SECONDS: Final = 90.0
