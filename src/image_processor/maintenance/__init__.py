"""What keeps the house in order: reap, expire, dispatch, remove. Any number of processes may do it."""

from image_processor.maintenance.house import Chore, House
from image_processor.maintenance.sweeper import ReaperGate, Sweeper, sweep_stage

__all__ = ["Chore", "House", "ReaperGate", "Sweeper", "sweep_stage"]
