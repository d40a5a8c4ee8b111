"""The observations with DuckDB: written, and then checked in what was written, by DuckDB itself or by Soda on it."""

import arguments
import duckdb

COLUMNS = {"date": "TIMESTAMP"} | dict.fromkeys(
    "patient encounter category code description value units type".split(), "VARCHAR"
)


def checks(written: str, patients: str) -> str:
    """The checks of bench_quality.rs in one query; each is a column that must be true."""

    def share(passes: str) -> str:
        return f"count(*) filter ({passes}) = count(*)"

    def uniqueness(columns: str) -> str:
        return f"(select count(*) filter (n = 1) / sum(n) from (select count(*) n from w group by {columns})) > 0.1"

    rules = [share(f"{column} is not null") for column in ("patient", "code", "description", '"type"')]
    rules += [f"count({column}) / count(*) > 0.5" for column in ("encounter", "value")]
    rules += [
        share("length(patient) = 36"),
        share("length(code) > 0 and length(code) < 20"),
        share("length(description) > 0 and length(description) < 300"),
        share("coalesce(length(units), 0) < 60"),
        share("\"type\" in ('numeric', 'text')"),
        share("category is null or category <> ''"),
        share("year > 1900 and year < 2100"),
        share("month > 0 and month < 13"),
        share("day > 0 and day < 32"),
        share("regexp_full_match(code, '[0-9A-Z-]+')"),
        share("units is null or units not in ('kilogram', 'metre', 'second')"),
        "count(*) filter (\"type\" = 'numeric' and try_cast(value as double) is not null)"
        " / count(*) filter (\"type\" = 'numeric') > 0.9",
        "count(*) filter (lower(code) not in ('t', 'true', 'y', 'yes', '1', 'f', 'false', 'n', 'no', '0'))"
        " / count(*) > 0.9",
        "count(*) > 1000",
        "avg(year) > 1950 and avg(year) < 2050",
        uniqueness("patient, encounter, code, value"),
        uniqueness("encounter, description"),
        f"(select count(*) filter (patient in (select id from {patients})) / count(*) from w) >= 0.99",
    ]
    columns = ", ".join(f"{rule} as r{i}" for i, rule in enumerate(rules))
    return f"with w as (select * from {written}) select {columns} from w"


SODA = r"""
checks for w:
  - missing_count(patient) = 0
  - missing_count(code) = 0
  - missing_count(description) = 0
  - missing_count(type) = 0
  - missing_percent(encounter) < 50
  - missing_percent(value) < 50
  - invalid_count(patient) = 0:
      valid length: 36
  - invalid_count(code) = 0:
      name: length of code
      valid min length: 1
      valid max length: 19
  - invalid_count(code) = 0:
      name: pattern of code
      valid regex: "^[0-9A-Z-]+$"
  - invalid_count(description) = 0:
      valid min length: 1
      valid max length: 299
  - invalid_count(units) = 0:
      name: length of units
      valid max length: 59
  - invalid_count(units) = 0:
      name: values of units
      invalid values: [kilogram, metre, second]
  - invalid_count(type) = 0:
      valid values: [numeric, text]
  - invalid_count(category) = 0:
      valid min length: 1
  - invalid_count(year) = 0:
      valid min: 1901
      valid max: 2099
  - invalid_count(month) = 0:
      valid min: 1
      valid max: 12
  - invalid_count(day) = 0:
      valid min: 1
      valid max: 31
  - numbers > 0.9:
      numbers expression: >
        count(*) filter (type = 'numeric' and try_cast(value as double) is not null)
        / count(*) filter (type = 'numeric')
  - not_booleans > 0.9:
      not_booleans expression: >
        count(*) filter (lower(code) not in ('t', 'true', 'y', 'yes', '1', 'f', 'false', 'n', 'no', '0')) / count(*)
  - row_count > 1000
  - avg(year) between 1950 and 2050
  - by_four > 0.1:
      by_four query: >
        select count(*) filter (n = 1) / sum(n)
        from (select count(*) n from w group by patient, encounter, code, value)
  - by_two > 0.1:
      by_two query: >
        select count(*) filter (n = 1) / sum(n) from (select count(*) n from w group by encounter, description)
  - found >= 0.99:
      found query: select count(*) filter (patient in (select id from patients)) / count(*) from w
  - schema:
      fail:
        when required column missing:
          [patient, encounter, category, code, description, value, units, type, year, month, day]
"""


def check_with_soda(db, written: str, patients: str) -> None:
    """The checks of bench_quality.rs in SodaCL."""
    from soda.scan import Scan

    db.execute(f"create view w as select * from {written}; create view patients as select * from {patients}")
    scan = Scan()
    scan.add_duckdb_connection(db, data_source_name="files")
    scan.set_data_source_name("files")
    scan.disable_telemetry()
    scan.add_sodacl_yaml_str(SODA)
    code = scan.execute()
    passed = len(scan.get_scan_results()["checks"])
    assert code == 0 and passed == 25, scan.get_logs_text()


MODES = {"": "DuckDB checks by itself", "soda": "Soda checks"}


def main() -> None:
    args = arguments.parse("DuckDB", lambda: f"DuckDB {duckdb.__version__}", MODES, suite="quality")
    db = arguments.connect(args)
    # As in duckdb_elt.py: the fastest of the ways to write one file for each day.
    db.execute("set partitioned_write_max_open_files = 1000000; set partitioned_write_flush_threshold = 100000000")
    rows = (
        f"read_csv('{args.data}/observations.csv', auto_detect = false, header = true, delim = ',', quote = '\"',"
        f" escape = '\"', columns = {COLUMNS})"
    )
    db.execute(f"""
        copy (
            select * exclude (date), year(date)::int as year, month(date)::int as month, day(date)::int as day
            from (select distinct * from {rows})
        ) to '{args.out}'
        (format parquet, compression snappy, partition_by (year, month, day), overwrite_or_ignore)""")
    if args.case == "audited":
        written = f"read_parquet('{args.out}/**/*.parquet', hive_partitioning = true)"
        patients = f"read_csv('{args.data}/patients.csv')"
        if args.mode == "soda":
            check_with_soda(db, written, patients)
        else:
            verdicts = db.execute(checks(written, patients)).fetchone()
            assert all(verdicts), verdicts


main()
