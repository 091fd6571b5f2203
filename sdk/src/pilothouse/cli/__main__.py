"""Run the command line as `python -m pilothouse.cli`, where no script is installed."""

from pilothouse.cli import main

main()
