"""The job half under faults: real core, attempts and outbox, simulated disks and wires."""
