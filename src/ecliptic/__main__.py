"""`python -m ecliptic` is the `ecliptic` command."""

from ecliptic.cli import run

if __name__ == "__main__":
    run()
