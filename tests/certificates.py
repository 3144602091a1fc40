"""Certificates of the tests' own, made with openssl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from probe.settings.schema import TlsSettings
from testbed.tools import missing

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


class Certificates:
    """A folder of PEM files: an authority, what it signed, and what another one signed."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            missing("openssl; on Debian: apt-get install openssl")
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for authority in ("ca", "stranger"):
            self._openssl("req", "-x509", *_KEY, "-subj", f"/CN={authority}", *self._out(authority))
        for name in ("server", "client"):
            subject = ("-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
            signer = ("-CA", self.path("ca.pem"), "-CAkey", self.path("ca.key"))
            self._openssl("req", "-x509", *signer, *_KEY, *subject, *self._out(name))

    def path(self, name: str) -> str:
        """One file's path."""
        return str(self.folder / name)

    def tls(self, *, ca: str = "ca.pem", client: str | None = None, name: str | None = None) -> TlsSettings:
        """The probe's settings with these files."""
        cert, key = (self.path(f"{client}.pem"), self.path(f"{client}.key")) if client else (None, None)
        return TlsSettings(ca=self.path(ca), cert=cert, key=key, server_name=name)

    def _out(self, name: str) -> tuple[str, ...]:
        return ("-keyout", self.path(f"{name}.key"), "-out", self.path(f"{name}.pem"))

    @staticmethod
    def _openssl(*arguments: str) -> None:
        subprocess.run(("openssl", *arguments), check=True, capture_output=True, timeout=30)
