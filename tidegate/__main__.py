"""`python -m tidegate`: the same as the command `tidegate`."""

from tidegate.cli.main import app

app(prog_name="tidegate")
