"""The three ELT cases with DuckDB, one file per partition."""

import arguments
import duckdb

MODES = {
    "": "the fastest for the case",
    "open": "a writer for each partition stays open until the end",
    "sorted": "sorted by partition first",
}
# Measured at scale 1 on 2 cores, see README.md.
FASTEST = {"encounters": "open", "observations": "open", "sinusitis": "open"}

COLUMNS = {
    "encounters": {
        "id": "VARCHAR",
        "start": "TIMESTAMP",
        "stop": "TIMESTAMP",
        "patient": "VARCHAR",
        "organization": "VARCHAR",
        "provider": "VARCHAR",
        "payer": "VARCHAR",
        "encounterclass": "VARCHAR",
        "code": "BIGINT",
        "description": "VARCHAR",
        "base_encounter_cost": "DOUBLE",
        "total_claim_cost": "DOUBLE",
        "payer_coverage": "DOUBLE",
        "reasoncode": "BIGINT",
        "reasondescription": "VARCHAR",
    },
    "observations": {"date": "TIMESTAMP"}
    | dict.fromkeys("patient encounter category code description value units type".split(), "VARCHAR"),
    "conditions": {
        "start": "DATE",
        "stop": "DATE",
        "patient": "VARCHAR",
        "encounter": "VARCHAR",
        "code": "BIGINT",
        "description": "VARCHAR",
    },
    "patients": {"id": "VARCHAR", "birthdate": "DATE", "deathdate": "DATE"}
    | dict.fromkeys("ssn drivers passport prefix first last suffix maiden marital".split(), "VARCHAR")
    | dict.fromkeys("race ethnicity gender birthplace address city state county zip".split(), "VARCHAR")
    | dict.fromkeys("lat lon healthcare_expenses healthcare_coverage".split(), "DOUBLE"),
}


def main() -> None:
    args = arguments.parse("DuckDB", lambda: f"DuckDB {duckdb.__version__}", MODES)
    mode = args.mode or FASTEST[args.case]
    db = arguments.connect(args)
    if mode == "open":
        # 100 by default: a partition that was closed and comes back would get a second file. A high threshold keeps
        # the rows of a partition together in few row groups.
        db.execute("set partitioned_write_max_open_files = 1000000; set partitioned_write_flush_threshold = 100000000")

    def table(name: str) -> str:
        # The schema is known, so nothing is sniffed.
        return (
            f"read_csv('{args.data}/{name}.csv', auto_detect = false, header = true, delim = ',', quote = '\"',"
            f" escape = '\"', columns = {COLUMNS[name]})"
        )

    def by_day(rows: str, day: str) -> str:
        order = "order by year, month, day" if mode == "sorted" else ""
        return f"""
            copy (
                select * exclude ({day}), year({day})::int as year, month({day})::int as month, day({day})::int as day
                from ({rows}) {order}
            ) to '{args.out}'
            (format parquet, compression snappy, partition_by (year, month, day), overwrite_or_ignore)"""

    match args.case:
        case "encounters":
            # What is filtered first need not be compared: duplicates are alike.
            symptoms = f"""
                select distinct * from {table("encounters")}
                where contains(description, 'Encounter for symptom') and reasoncode is not null"""
            db.execute(by_day(symptoms, "start"))
        case "observations":
            db.execute(by_day(f"select distinct * from {table('observations')}", "date"))
        case "sinusitis":
            # A condition's patient is one row, so what is distinct afterwards was distinct before.
            db.execute(f"""
                copy (
                    select c.*, birthdate, marital, race, ethnicity, gender, (c.start - birthdate)::int as condition_age
                    from (select distinct * from {table("conditions")} where contains(description, 'sinusitis')) c
                    join (
                        select distinct * from {table("patients")}
                        where ethnicity is not null and race is not null and gender is not null and marital is not null
                    ) p on c.patient = p.id
                ) to '{args.out}/sinusitis.parquet' (format parquet, compression snappy)""")


main()
