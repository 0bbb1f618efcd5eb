"""The parts of `gpu.py`, one module each, and what they share: `setting`, `work` and `report`.

What is measured is this checkout, installed or not; it may be a copy that has lost the links to the rooms.
"""

import importlib.util
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]

sys.path.insert(0, str(_ROOT))
if importlib.util.find_spec("unposed.networks") is None:
    import unposed

    unposed.__path__.append(str(_ROOT))
