"""How a worker hears of a job: hints that carry ids and nothing else. Losing them all loses no job."""
