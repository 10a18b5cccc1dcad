"""`python -m refart`: the command line."""

from refart.cli import main

main()
