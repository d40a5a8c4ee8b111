"""sbom.py ARCHIVE...: the library of CycloneDX finds nothing wrong with the SBOMs that `hardtack package` has written."""

import io
import json
import sys
import tarfile

import zstandard
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

for archive in sys.argv[1:]:
    with open(archive, "rb") as file:
        tar = tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().stream_reader(file).read()))
    name = next(name for name in tar.getnames() if name.endswith("/sbom.cdx.json"))
    text = tar.extractfile(name).read().decode()
    error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
    assert error is None, f"{archive}: {error}"
    # The schema does not say so: what depends on something, and what it depends on, must be in the document.
    bom = Bom.from_json(json.loads(text))
    bom.validate()
    known = {component.bom_ref.value for component in bom.components} | {bom.metadata.component.bom_ref.value}
    named = {ref.value for of in bom.dependencies for ref in [of.ref, *(needs.ref for needs in of.dependencies)]}
    assert named == known, f"{archive}: {sorted(named ^ known)}"
    assert len(bom.components) == len(known) - 1 > 0, archive
    print(f"sbom: {archive.rsplit('/', 1)[-1]}: {len(bom.components)} crates: ok")
