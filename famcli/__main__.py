"""``python -m famcli``, and the ``fam`` command."""

from famcli.cli.app import app


def main() -> None:
    """Run the command line, as ``fam`` does; a script that adds to ``METHODS`` gives it a method of its own."""
    app(prog_name="fam")


if __name__ == "__main__":
    main()
