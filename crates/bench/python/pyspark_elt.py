"""The three ELT cases with PySpark on this machine, one file per partition."""

import os
import shutil
import sys

import arguments
import pyspark

if not (shutil.which("java") or os.getenv("JAVA_HOME")):
    sys.exit("Spark needs Java, and there is none")
args = arguments.parse("PySpark", lambda: f"PySpark {pyspark.__version__}", {"": "the only one"})
threads = args.threads or os.cpu_count()

if "PYSPARK_GATEWAY_PORT" not in os.environ:
    # This process becomes the JVM, so that its memory and processor time are what is measured.
    submit = os.path.join(os.path.dirname(pyspark.__file__), "bin", "spark-submit")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_HOME"] = os.path.dirname(pyspark.__file__)
    options = ["--master", f"local[{threads}]", "--driver-memory", "6g", "--conf", "spark.ui.enabled=false"]
    os.execv(submit, [submit, *options, os.path.abspath(__file__), *sys.argv[1:]])

from pyspark.sql import DataFrame, SparkSession
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
SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": 4 * threads,
    "spark.sql.parquet.compression.codec": "snappy",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # Files are renamed by the tasks, not one after another by the driver.
    "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": 2,
    "spark.ui.showConsoleProgress": False,
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
}


def main() -> None:
    builder = SparkSession.builder.appName(args.case)
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")

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
