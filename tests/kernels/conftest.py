"""Makes this folder's helpers (matrices.py) importable by its tests, from any working directory."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
