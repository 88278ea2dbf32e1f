"""Fields and kinds of values that several sections of ``gpumon.yaml`` have in common."""

from __future__ import annotations

from monitor.field_kinds import Field, SecretText, Section, Text, Truth

PATH = Text("path", "paths", filled=True)
SECRET = SecretText()
WEB_SECRET = SecretText(r"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#]", "an http or https URL", bare=False)

CA_FILE = Field(
    "ca_file",
    PATH,
    "certificates to trust",
    without="the system's",
    examples=("/etc/gpumon/ca.pem",),
)
SKIP_VERIFY = Field("insecure_skip_verify", Truth(), "whether a bad certificate is taken", default=False)
BEARER_TOKEN = Field(
    "bearer_token",
    SECRET,
    "`Authorization: Bearer`",
    without="none",
    examples=({"file": "/etc/gpumon/hook-token"},),
)

SECRET_PARTS = Section(
    "secret",
    "A secret that stands elsewhere: one of the two.",
    (
        Field("env", Text(filled=True), "a variable of the daemon's environment", examples=("GPUMON_URL",)),
        Field(
            "file",
            PATH,
            "a file that holds it, and nothing else; read each time, so that it can be changed",
            examples=("/etc/gpumon/url",),
        ),
    ),
    one_of=("env", "file"),
)
