"""`python -m lensmount_client` is the command `lensmount`."""

from lensmount_client._cli.main import main

main()
