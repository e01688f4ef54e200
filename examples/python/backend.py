"""backend.py - makes the wheel: `pip wheel .` calls it, as PEP 517 says. It needs a C compiler (CC, default cc; CFLAGS and
LDFLAGS are added) and nothing of Python but its own library.

The wheel is kalm_rerank/: kalm_rerank.py as its __init__.py, the types, the adapters, and the shared library that is compiled here. It is
for any Python 3 on this machine's system and processor."""

import base64
import hashlib
import io
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
NAME = "kalm_rerank"
ADAPTERS = ("langchain.py", "llamaindex.py", "haystack.py", "rerankers.py")
LIBRARY = {"darwin": "libkalm_rerank.dylib", "win32": "kalm_rerank.dll"}.get(sys.platform, "libkalm_rerank.so")
SUMMARY = "Rerank passages with KaLM-Reranker-V1 on a CPU: a C library and one Python file over it"


def _find(name):
    """A file of the source distribution, where it is beside this one, or of the repository, two folders up."""
    for path in (os.path.join(HERE, name), os.path.join(HERE, "..", "..", name)):
        if os.path.exists(path):
            return path
    raise FileNotFoundError("%s is neither in %s nor two folders up" % (name, HERE))


def _read(name):
    with open(_find(name), "rb") as file:
        return file.read()


def _version():
    """"0.1.0", of the header."""
    header = _read("kalm_rerank.h").decode()
    return ".".join(re.search(r"#define KALM_VERSION_%s (\d+)" % part, header).group(1) for part in ("MAJOR", "MINOR", "PATCH"))


def _compiled():
    """The bytes of the shared library."""
    with tempfile.TemporaryDirectory() as folder:
        library = os.path.join(folder, LIBRARY)
        command = shlex.split(os.environ.get("CC", "cc")) + ["-O2", "-shared", "-fPIC", "-DKALM_RERANK_IMPLEMENTATION"]
        command += shlex.split(os.environ.get("CFLAGS", "")) + ["-x", "c", _find("kalm_rerank.h"), "-o", library]
        command += shlex.split(os.environ.get("LDFLAGS", "")) + ["-lm"] + ([] if sys.platform == "win32" else ["-lpthread"])
        try:
            subprocess.run(command, check=True)
        except FileNotFoundError:
            raise RuntimeError("there is no C compiler %r: install one, or name it in CC" % command[0]) from None
        with open(library, "rb") as file:
            return file.read()


def _metadata():
    head = ["Metadata-Version: 2.1", "Name: kalm-rerank", "Version: " + _version(), "Summary: " + SUMMARY, "License: MIT",
            "Requires-Python: >=3.8", "Description-Content-Type: text/markdown"]
    return ("\n".join(head) + "\n\n").encode() + _read("README.md")


def _dist_info():
    return "%s-%s.dist-info" % (NAME, _version())


def _tag():
    return "py3-none-" + re.sub(r"[^A-Za-z0-9]", "_", sysconfig.get_platform())


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Write the wheel; its file name."""
    info = _dist_info()
    wheel = "Wheel-Version: 1.0\nGenerator: %s\nRoot-Is-Purelib: false\nTag: %s\n" % (NAME, _tag())
    files = [(NAME + "/__init__.py", _read("kalm_rerank.py")), (NAME + "/__init__.pyi", _read("kalm_rerank.pyi")),
             (NAME + "/py.typed", b""), (NAME + "/" + LIBRARY, _compiled()), (info + "/METADATA", _metadata()),
             (info + "/WHEEL", wheel.encode()), (info + "/LICENSE", _read("LICENSE"))]
    files += [(NAME + "/" + name, _read("adapters/" + name)) for name in ADAPTERS]
    record = "".join("%s,sha256=%s,%d\n" % (path, base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode(), len(data))
                     for path, data in files)
    files.append((info + "/RECORD", (record + info + "/RECORD,,\n").encode()))
    name = "%s-%s-%s.whl" % (NAME, _version(), _tag())
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files:       # the same bytes whenever it is made
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = (0o755 if path.endswith(LIBRARY) else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return name


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    """Write METADATA, which needs no compiler."""
    folder = os.path.join(metadata_directory, _dist_info())
    os.makedirs(folder)
    with open(os.path.join(folder, "METADATA"), "wb") as file:
        file.write(_metadata())
    return _dist_info()


def build_sdist(sdist_directory, config_settings=None):
    """Write the source distribution; its file name."""
    base = "%s-%s" % (NAME, _version())
    with tarfile.open(os.path.join(sdist_directory, base + ".tar.gz"), "w:gz", format=tarfile.PAX_FORMAT) as archive:
        contents = [(name, _read(name)) for name in ("pyproject.toml", "backend.py", "kalm_rerank.py", "kalm_rerank.pyi", "README.md",
                                                     "kalm_rerank.h", "LICENSE") + tuple("adapters/" + one for one in ADAPTERS)]
        for name, data in contents + [("PKG-INFO", _metadata())]:
            entry = tarfile.TarInfo(base + "/" + name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return base + ".tar.gz"
