"""Generate mcproxy/admin/pb from proto/; `make proto` runs it.

protoc writes imports as if proto/ were the root of all packages. They are rewritten to name the package that they
live in, so that nobody has to touch sys.path.
"""

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parents[2]
PROTO = ROOT / "proto"
FOLDER = "mc_proxy/v1"
PACKAGE = "mcproxy.admin.pb"
OUT = ROOT / PACKAGE.replace(".", "/")


def generate() -> dict[str, str]:
    """The generated files by name. Raises RuntimeError where protoc finds an error (it prints which)."""
    with tempfile.TemporaryDirectory() as out:
        arguments = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
        include = files("grpc_tools") / "_proto"
        status = protoc.main(["protoc", f"-I{PROTO}", f"-I{include}", *arguments, f"{PROTO}/{FOLDER}/admin.proto"])
        if status != 0:
            raise RuntimeError("protoc failed")
        old = f"from {FOLDER.replace('/', '.')} import"
        return {p.name: p.read_text().replace(old, f"from {PACKAGE} import") for p in (Path(out) / FOLDER).iterdir()}


def main() -> int:
    """Write the files."""
    for name, text in generate().items():
        (OUT / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
