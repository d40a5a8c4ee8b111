"""Lets an audit refuse rows of a job, and reads them as others do: DuckDB and pyarrow read the place that was printed.

    read_refused.py FOLDER_OF_BINARIES

`books_data_product` finds two books whose titles are too long and one good one. Each of the two must be there, and with it the
rule that it has failed. A difference is printed, and the exit code is 1.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset

RULE = 'ColumnLength "title" between 0 and 1000'
TITLES = ["é" * 1001, "x" * 2000]


def refused(job: Path, folder: Path) -> Path:
    """Runs the job; returns where the rows are that it refused."""
    books = folder / "sample_data" / "json" / "books"
    authors = folder / "sample_data" / "json" / "authors"
    for place in (books, authors):
        place.mkdir(parents=True)
    delivered = [{"title": title, "author": "Frank Herbert"} for title in [*TITLES, "Dune"]]
    (books / "1.json").write_text("".join(json.dumps(book) + "\n" for book in delivered))
    (authors / "1.json").write_text(json.dumps({"name": "Frank Herbert", "id": 1, "birth_date": "1920-10-08"}) + "\n")
    args = ["--source", str(folder), "--target", "out", "--state", "state", "--log-format", "pretty"]
    done = subprocess.run([job, *args], cwd=folder, capture_output=True, text=True)
    place = next((line.removeprefix("refused rows: ") for line in done.stderr.splitlines() if line.startswith("refused rows: ")), "")
    if done.returncode != 3 or not place:
        sys.exit(f"{job.name} ended with {done.returncode} and refused nothing\n{done.stderr}")
    return folder / place.removeprefix("file://")


def by_duckdb(place: Path) -> list[dict[str, Any]]:
    read = duckdb.connect().execute(f"SELECT * FROM read_parquet('{place}/**/*.parquet')")
    names = [column[0] for column in read.description]
    return [dict(zip(names, row)) for row in read.fetchall()]


def by_pyarrow(place: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pyarrow.dataset.dataset(str(place), format="parquet").to_table().to_pylist()
    return rows


def main() -> int:
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        place = refused(Path(sys.argv[1]).resolve() / "books_data_product", Path(folder))
        for engine, read in {"DuckDB": by_duckdb, "pyarrow": by_pyarrow}.items():
            rows = sorted((row["title"], row["author_id"], row["_failed_rules"]) for row in read(place))
            wanted = sorted((title, 1, [RULE]) for title in TITLES)
            failed = failed or rows != wanted
            print(f"refused rows, {engine}: {f'{len(rows)} rows and the rule that they fail' if rows == wanted else f'{rows}, not {wanted}'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
