"""The three ELT cases with PySpark on this machine, one file per partition."""

import os
import shutil
import sys

import arguments
import pyspark

if not (shutil.which("java") or os.getenv("JAVA_HOME")):
    sys.exit("Spark needs Java, and there is none")
args = arguments.parse("PySpark", lambda: f"PySpark {pyspark.__version__}", {"": "the only one"})
arguments.become_spark(args)

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

COLUMNS = {
    "encounters": """id string, start timestamp, stop timestamp, patient string, organization string, provider string,
        payer string, encounterclass string, code bigint, description string, base_encounter_cost double,
        total_claim_cost double, payer_coverage double, reasoncode bigint, reasondescription string""",
    "observations": """date timestamp, patient string, encounter string, category string, code string,
        description string, value string, units string, type string""",
    "conditions": "start date, stop date, patient string, encounter string, code bigint, description string",
    "patients": """id string, birthdate date, deathdate date, ssn string, drivers string, passport string,
        prefix string, first string, last string, suffix string, maiden string, marital string, race string,
        ethnicity string, gender string, birthplace string, address string, city string, state string, county string,
        zip string, lat double, lon double, healthcare_expenses double, healthcare_coverage double""",
}


def main() -> None:
    spark = arguments.spark_session(args, "snappy")

    def table(name: str) -> DataFrame:
        return spark.read.csv(f"{args.data}/{name}.csv", schema=COLUMNS[name], header=True)

    def save_by_day(rows: DataFrame, day: str) -> None:
        parts = {"year": F.year(day), "month": F.month(day), "day": F.dayofmonth(day)}
        # All rows of a day in one task, so that it writes one file.
        rows = rows.withColumns(parts).drop(day).repartition(*parts)
        rows.write.mode("overwrite").partitionBy(*parts).parquet(args.out)

    match args.case:
        case "encounters":
            symptoms = table("encounters").filter(
                F.col("description").contains("Encounter for symptom") & F.col("reasoncode").isNotNull()
            )
            save_by_day(symptoms.dropDuplicates(), "start")
        case "observations":
            save_by_day(table("observations").dropDuplicates(), "date")
        case "sinusitis":
            # A condition's patient is one row, so what is distinct before the join is distinct after it.
            conditions = table("conditions").filter(F.col("description").contains("sinusitis")).dropDuplicates()
            patients = table("patients").dropna(subset=["ethnicity", "race", "gender", "marital"]).dropDuplicates()
            study = conditions.join(patients, conditions.patient == patients.id).select(
                *conditions.columns,
                *"birthdate marital race ethnicity gender".split(),
                F.datediff("start", "birthdate").alias("condition_age"),
            )
            study.coalesce(1).write.mode("overwrite").parquet(args.out)
    spark.stop()


main()
