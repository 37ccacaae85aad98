"""Waiting for what other programs do and no event tells of."""

import time


def settled(look, good, seconds):
    """What look() says once that is good, or what it says after so long."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if good(seen) or time.monotonic() > deadline:
            return seen
        time.sleep(0.05)  # tidy: between two looks


def wait_for(what, condition, seconds=30):
    """Returns once the condition holds."""
    if not settled(condition, bool, seconds):
        raise TimeoutError(f"waited {seconds} s for {what}")
