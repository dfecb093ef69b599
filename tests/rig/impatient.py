"""The router as it is, but an instance that decodes nothing counts as stuck after seconds instead of a minute.

python -m tests.rig.impatient serve --config router.yaml
"""

import sys

from router.cli import main
from router.probe import stuck

STUCK_S = 3.0

if __name__ == "__main__":
    assert stuck.STUCK_S > STUCK_S
    stuck.STUCK_S = STUCK_S
    sys.exit(main(sys.argv[1:]))
