"""`python -m mcproxy` is the same program as `mcproxy`."""

from mcproxy.cli.main import main

if __name__ == "__main__":
    main(prog_name="mcproxy")
