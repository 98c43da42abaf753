"""Whether this kernel has Landlock. Where it has not, the tests see that it is said."""

from __future__ import annotations

import ctypes

AVAILABLE = ctypes.CDLL(None).syscall(444, None, 0, 1) > 0
