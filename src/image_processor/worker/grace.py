"""How long a worker may take to stop. Alone here, as whoever starts a worker goes by it too."""

STOP_GRACE_SECONDS = 20.0
"""How long running jobs may go on after SIGTERM before they are handed back."""
HAND_BACK_SECONDS = 5.0
"""How long handing back may take, and after it the end of the heartbeat and the sweeper."""
HAND_BACK_TICK_SECONDS = 0.05
