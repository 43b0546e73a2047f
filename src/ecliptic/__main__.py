"""`python -m ecliptic` is the `ecliptic` command."""

from ecliptic.cli.main import run

if __name__ == "__main__":
    run()
