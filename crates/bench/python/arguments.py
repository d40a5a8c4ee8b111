"""The command line of all engines: `X_elt.py CASE DATA OUT [--threads N] [--memory-limit SIZE] [--mode MODE]`."""

import argparse

CASES = ("encounters", "observations", "sinusitis")


def parse(engine: str, version, modes: dict[str, str]) -> argparse.Namespace:
    """Parses the command line of one engine.

    `version` is called for `--version`, which says whether the engine can run here. `modes` are the ways to write one
    file per partition, with a line on each; the empty name is what is fastest for the case.
    """
    parser = argparse.ArgumentParser(
        description=f"The three ELT cases with {engine}",
        epilog="modes: " + "; ".join(f"{name}: {what}" for name, what in modes.items()),
    )
    parser.add_argument("case", choices=CASES)
    parser.add_argument("data", help="folder of encounters.csv, observations.csv, conditions.csv, patients.csv")
    parser.add_argument("out", help="folder to write to; must be empty")
    parser.add_argument("--threads", type=int, help="default: one per core")
    parser.add_argument("--memory-limit", help="for example 1GiB, if the engine has such a limit")
    parser.add_argument("--mode", choices=modes, default="")
    parser.add_argument("--version", action="version", version=version())
    return parser.parse_args()
