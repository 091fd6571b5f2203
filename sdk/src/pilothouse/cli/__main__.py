"""python -m pilothouse.cli: the same where no script was installed."""

from pilothouse.cli import main

main()
