"""A process as a supervisor expects one: announces itself, says that it is ready, ends on SIGTERM. Run as a script.

`--deaf` ignores SIGTERM, `--code N` ends at once with N, `--mute` never announces, `--family` has a child in its group
that ignores SIGTERM, `--stray` has a child in a group of its own. Children write their pid to `run/<name>.child`.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from infra.http import Health
from infra.supervisor import announce

DEAF_CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def main() -> int:
    options = _parse()
    home = Path(os.environ["THUMBWHEEL_HOME"])
    if options.code is not None:
        sys.stderr.write(f"{options.name} cannot go on\n")
        return int(options.code)
    if options.family or options.stray:
        child = subprocess.Popen([sys.executable, "-c", DEAF_CHILD], start_new_session=options.stray)
        (home / "run" / f"{options.name}.child").write_text(str(child.pid))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if options.deaf else lambda *_: stop.set())
    health = Health({})
    health.start()
    if not options.mute:
        announce(home, options.name, health.address)
    stop.wait()
    health.close()
    (home / f"{options.name}.drained").touch()
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--code", type=int)
    for flag in ("--deaf", "--mute", "--family", "--stray"):
        parser.add_argument(flag, action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
