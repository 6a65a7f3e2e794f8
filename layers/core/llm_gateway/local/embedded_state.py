"""What the embedded AWS knows, kept in one SQLite file so that it survives any end of its process.

Every accepted write is in the file before its caller hears of it, so a `kill -9` loses nothing. Kept are DynamoDB's
tables (definition, TTL, stream and other settings, items) and Secrets Manager's current values; not kept are stream
records, previous secret versions and other services.

Items are kept as images by key, not as a log of requests: the file is as large as the data, and needs no compaction.
Requests that shape a table are kept as they came and are made again at the next start.

Wire formats: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Operations_Amazon_DynamoDB.html
and https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_Operations.html
"""

import base64
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.table import Table
from moto.secretsmanager.models import FakeSecret, secretsmanager_backends

Call = Callable[[str, dict[str, Any]], dict[str, Any] | None]
"""Makes one request at the embedded AWS: (X-Amz-Target, body) -> the answer's body, None where it is an error."""

DYNAMODB = "DynamoDB_20120810."
SECRETS = "secretsmanager."
SHAPING = {"CreateTable", "UpdateTable", "UpdateTimeToLive", "UpdateContinuousBackups"}
WRITING_SECRETS = {
    "CreateSecret",
    "PutSecretValue",
    "UpdateSecret",
    "UpdateSecretVersionStage",
    "DeleteSecret",
    "RestoreSecret",
    "TagResource",
    "UntagResource",
}
SECRET_ARN = re.compile(r"^arn:.*:secret:(.*)-[^-]{6}$")
SCHEMA = """
CREATE TABLE IF NOT EXISTS shaping (position INTEGER PRIMARY KEY, table_name TEXT, target TEXT, body TEXT);
CREATE TABLE IF NOT EXISTS items (table_name TEXT, key TEXT, image TEXT, PRIMARY KEY (table_name, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, image TEXT) WITHOUT ROWID;
"""


class StateUnreadable(Exception):
    """The file is not one of ours, or damaged; the text names it and says what to do."""


class EmbeddedState:
    """The file. Its methods are called one at a time, as the embedded AWS answers.

    Raises `StateUnreadable` on opening, `sqlite3.Error` where the disk refuses a write.
    """

    def __init__(self, path: Path, region: str) -> None:
        self._backend = dynamodb_backends[DEFAULT_ACCOUNT_ID][region]
        self._secrets = secretsmanager_backends[DEFAULT_ACCOUNT_ID][region]
        path.touch(mode=0o600)  # it holds the providers' keys
        try:
            # Opened by the main thread, used by the server's only worker: never by both at once.
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            # The operating system keeps what a killed process wrote; only a power cut could cost the last writes.
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            raise StateUnreadable(f"{path} cannot be read ({error}); move it away to start empty") from error

    def close(self) -> None:
        self._db.close()

    def keep(self, target: str, body: bytes, call: Call) -> None:
        """Keeps what an accepted request changed. `target` is its X-Amz-Target, `body` its JSON."""
        operation = target.rpartition(".")[2]
        if target.startswith(DYNAMODB):
            request = json.loads(body)
            if operation in SHAPING:
                self._keep_shape(request["TableName"], target, body)
            elif operation == "DeleteTable":
                self._forget_table(request["TableName"])
            else:
                self._keep_items(touched(operation, request))
        elif target.startswith(SECRETS) and operation in WRITING_SECRETS:
            request = json.loads(body)
            self._keep_secret(request.get("SecretId") or request["Name"], call)

    def restore(self, call: Call, now: float | None = None) -> int:
        """Tells an empty embedded AWS everything again; the number of items that are back.

        Items whose TTL has passed stay away: moto expires nothing itself.
        """
        for target, body in self._db.execute("SELECT target, body FROM shaping ORDER BY position").fetchall():
            if call(target, json.loads(body)) is None:
                raise StateUnreadable(f"the embedded AWS no longer takes its own {target}: {body}")
        count = 0
        for (name,) in self._db.execute("SELECT DISTINCT table_name FROM items").fetchall():
            count += self._restore_items(self._backend.get_table(name), time.time() if now is None else now)
        for name, image in self._db.execute("SELECT name, image FROM secrets").fetchall():
            if call(f"{SECRETS}CreateSecret", json.loads(image)) is None:
                raise StateUnreadable(f"the embedded AWS no longer takes its own secret {name}")
        return count

    def _keep_shape(self, table: str, target: str, body: bytes) -> None:
        if not target.endswith(("CreateTable", "UpdateTable")):  # the last word of these counts alone
            self._db.execute("DELETE FROM shaping WHERE table_name = ? AND target = ?", (table, target))
        self._db.execute(
            "INSERT INTO shaping (table_name, target, body) VALUES (?, ?, ?)", (table, target, body.decode())
        )

    def _forget_table(self, table: str) -> None:
        self._db.execute("DELETE FROM shaping WHERE table_name = ?", (table,))
        self._db.execute("DELETE FROM items WHERE table_name = ?", (table,))

    def _keep_items(self, keys: Iterator[tuple[str, dict[str, Any]]]) -> None:
        self._db.execute("BEGIN")
        try:
            for name, attributes in keys:
                self._keep_item(self._backend.get_table(name), attributes)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _keep_item(self, table: Table, attributes: dict[str, Any]) -> None:
        key = {one: attributes[one] for one in (table.hash_key_attr, table.range_key_attr) if one is not None}
        row = (table.name, json.dumps(key, sort_keys=True))
        item = self._backend.get_item(table.name, key)
        if item is None:
            self._db.execute("DELETE FROM items WHERE table_name = ? AND key = ?", row)
            return
        image = json.dumps(item.to_json()["Attributes"], default=as_base64)
        self._db.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", (*row, image))

    def _restore_items(self, table: Table, now: float) -> int:
        ttl = table.ttl.get("AttributeName") if table.ttl["TimeToLiveStatus"] == "ENABLED" else None
        expired: list[str] = []
        count = 0
        # Items that come back are no news for those who read the stream.
        stream, table.stream_shard = table.stream_shard, None
        for key, image in self._db.execute("SELECT key, image FROM items WHERE table_name = ?", (table.name,)):
            item = json.loads(image)
            if ttl is not None and float(item.get(ttl, {}).get("N", "inf")) < now:
                expired.append(key)
                continue
            table.put_item(item, overwrite=True)
            count += 1
        table.stream_shard = stream
        self._db.executemany(
            "DELETE FROM items WHERE table_name = ? AND key = ?", [(table.name, key) for key in expired]
        )
        return count

    def _keep_secret(self, name: str, call: Call) -> None:
        described = call(f"{SECRETS}DescribeSecret", {"SecretId": name})
        value = call(f"{SECRETS}GetSecretValue", {"SecretId": name, "VersionStage": "AWSCURRENT"})
        if described is None or value is None or described.get("DeletedDate"):
            # It may have been called by its ARN, which ends with its name and six characters of chance.
            name = SECRET_ARN.sub(r"\1", name)
            self._db.execute("DELETE FROM secrets WHERE name = ?", (name,))
            return
        # moto's own mark of the current version does not go along where AWSCURRENT is moved, and the next
        # PutSecretValue would take the label from the marked one: two would be current then.
        secret = self._secrets.secrets[described["Name"]]
        if isinstance(secret, FakeSecret):
            secret.set_default_version_id(value["VersionId"])
        image: dict[str, Any] = {
            "Name": described["Name"],
            "Description": described.get("Description") or "",
            "Tags": described.get("Tags") or [],
            "ClientRequestToken": value["VersionId"],
            **{field: value[field] for field in ("SecretString", "SecretBinary") if field in value},
        }
        self._db.execute("INSERT OR REPLACE INTO secrets VALUES (?, ?)", (described["Name"], json.dumps(image)))


def touched(operation: str, request: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The items a request may have changed: (table, attributes that hold the key). Nothing for one that reads."""
    if operation == "PutItem":
        yield request["TableName"], request["Item"]
    elif operation in {"UpdateItem", "DeleteItem"}:
        yield request["TableName"], request["Key"]
    elif operation == "BatchWriteItem":
        for table, writes in request["RequestItems"].items():
            for write in writes:
                yield table, write["PutRequest"]["Item"] if "PutRequest" in write else write["DeleteRequest"]["Key"]
    elif operation == "TransactWriteItems":
        for action in request["TransactItems"]:
            for kind, write in action.items():
                if kind != "ConditionCheck":
                    yield write["TableName"], write["Item"] if kind == "Put" else write["Key"]


def as_base64(value: object) -> str:
    """Binary values nested in lists and maps are bytes in moto, and text on the wire."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is no attribute value")
