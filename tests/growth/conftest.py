"""`benchmarks` is no part of what is installed; it is found at the top of the repository."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
