"""The gateway process: `python -m gateway.main`."""

import gc
import sys


def main() -> int:
    """Imports with the garbage collector off: it would look through what stays a dozen times, a fifth of the start."""
    gc.disable()
    from gateway.process import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
