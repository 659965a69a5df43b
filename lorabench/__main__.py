"""``python -m lorabench``."""

from lorabench.cli import main

main()
