"""Iceberg's runtime for Spark, from packages of Python."""

import glob
import os
import struct
import zipfile
from pathlib import Path

import pyspark
import snowpark_connect_deps_iceberg

SHADED = "org/apache/iceberg/shaded/"
# How long the constants of a class file are, by their tags.
CONSTANT_SIZES = {3: 5, 4: 5, 5: 9, 6: 9, 7: 3, 8: 3, 9: 5, 10: 5, 11: 5, 12: 5, 15: 4, 16: 3, 17: 5, 18: 5, 19: 3, 20: 3}


def relocated(class_file: bytes) -> bytes:
    """A class of Jackson under the name by which Iceberg's runtime, of which it was left out, looks for it."""
    old, new = b"com/fasterxml/jackson", SHADED.encode() + b"com/fasterxml/jackson"
    (count,) = struct.unpack(">H", class_file[8:10])
    at, index, out = 10, 1, [class_file[:10]]
    while index < count:
        tag = class_file[at]
        if tag == 1:
            (length,) = struct.unpack(">H", class_file[at + 1 : at + 3])
            text = class_file[at + 3 : at + 3 + length].replace(old, new)
            text = text.replace(old.replace(b"/", b"."), new.replace(b"/", b"."))
            out.append(bytes([1]) + struct.pack(">H", len(text)) + text)
            at += 3 + length
        else:
            size = CONSTANT_SIZES[tag]
            out.append(class_file[at : at + size])
            at += size
            index += tag in (5, 6)
        index += 1
    return b"".join(out) + class_file[at:]


def shaded_jackson(folder: Path) -> str:
    """Makes a jar of PySpark's Jackson for Iceberg's runtime; returns its path."""
    jars, target = Path(pyspark.__file__).parent / "jars", folder / "jackson-shaded.jar"
    with zipfile.ZipFile(target, "w") as made:
        seen = set()
        for part in ["core", "databind", "annotations"]:
            with zipfile.ZipFile(glob.glob(str(jars / f"jackson-{part}-2.*.jar"))[0]) as jar:
                for name in jar.namelist():
                    if name.endswith(".class") and name.startswith("com/") and name not in seen:
                        seen.add(name)
                        made.writestr(SHADED + name, relocated(jar.read(name)))
    return str(target)


def jars(folder: Path) -> list[str]:
    """The jars with which Spark knows Iceberg; one of them is made in this folder."""
    runtime = glob.glob(os.path.dirname(snowpark_connect_deps_iceberg.__file__) + "/jars/*runtime-3.5_2.12*.jar")
    return [*runtime, shaded_jackson(folder)]
