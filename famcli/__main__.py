"""``python -m famcli``, and the ``fam`` command."""

from famcli.cli.app import app


def main() -> None:
    """Run the command line."""
    app(prog_name="fam")


if __name__ == "__main__":
    main()
