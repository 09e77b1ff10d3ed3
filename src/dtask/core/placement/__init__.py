"""Which worker should run this: tags, load, fleet, leases, choice and explanation."""
