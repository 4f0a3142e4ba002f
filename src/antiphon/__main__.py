"""``python -m antiphon``: the same as the ``antiphon`` command."""

import sys

from antiphon.cli import main

sys.exit(main())
