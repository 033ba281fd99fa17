"""One thread at a time, where something is changed that belongs to the whole process.

Loading and building models exchanges torch's default dtype, how modules register parameters, levels of loggers and the
like, and puts all of it back. Two threads at once would put back what the other had set, for good.
"""

import threading

EXCLUSIVE = threading.RLock()
"""Held while it is so; whoever holds it may take it again."""
