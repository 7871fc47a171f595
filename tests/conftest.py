"""Set before anything is imported: one thread a process, here and in what the tests start.

Small tensors gain nothing from two threads, and threads that wait for each other on busy cores lose much.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"
