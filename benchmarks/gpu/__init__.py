"""The parts of `gpu.py`, one module each, and what they share: `setting`, `work` and `report`."""
