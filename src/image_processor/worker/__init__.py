"""The process that claims jobs: slots that work, a heartbeat for their leases, a sweeper."""
