"""``python -m PACKAGE --selftest [--json]``: does this installation answer as it should on this device?"""

import sys

from toolkit.selftest import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
