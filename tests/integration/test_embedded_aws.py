"""The embedded AWS: one request at a time, nothing lost by `kill -9`, ends when it should, closed to web pages."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError

from llm_gateway.local.embedded_address import (
    LOCK_FILE,
    STATE_FILE,
    EmbeddedAddress,
    EmbeddedAws,
    EmbeddedAwsFailed,
    Starting,
    attach,
    is_locked,
)
from llm_gateway.local.tables import create_tables, definition, shapes
from llm_gateway.settings import Settings

SETTINGS = Settings()
LEDGER = SETTINGS.ledger_table
REGISTRY = SETTINGS.registry_table


def client(service: str, address: EmbeddedAddress, region: str = "us-east-1") -> Any:
    session: Any = boto3.session.Session(region_name=region)  # typed clients would differ with the stubs installed
    return session.client(
        service,
        endpoint_url=address.endpoint_url,
        aws_access_key_id=address.access_key,
        aws_secret_access_key=address.secret_key,
    )


def kill(aws: EmbeddedAws) -> None:
    assert aws.process is not None
    aws.process.kill()
    aws.process.wait()


def eventually(happened: Callable[[], bool], within_s: float = 6.0) -> bool:
    deadline = time.monotonic() + within_s
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def start(bare_environ: dict[str, str]) -> Iterator[Callable[[Path], EmbeddedAws]]:
    started: list[EmbeddedAws] = []

    def begin(data: Path) -> EmbeddedAws:
        data.mkdir(exist_ok=True)
        started.append(Starting(data, outlive=False, environ=bare_environ).wait())
        return started[-1]

    yield begin
    for aws in started:
        aws.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, bare_environ: dict[str, str]) -> Iterator[EmbeddedAddress]:
    aws = Starting(tmp_path_factory.mktemp("aws"), outlive=False, environ=bare_environ).wait()
    create_tables(client("dynamodb", aws.address), SETTINGS)
    yield aws.address
    aws.stop()
    assert aws.process is not None
    assert aws.process.returncode == 0


class TestOneRequestAtATime:
    def test_conditional_writes_stay_atomic_under_concurrent_clients(self, shared: EmbeddedAddress) -> None:
        def spend(worker: int) -> int:
            dynamodb = client("dynamodb", shared)
            taken = 0
            for _ in range(15):
                try:
                    dynamodb.update_item(
                        TableName=LEDGER,
                        Key={"pk": {"S": "budget"}},
                        UpdateExpression="ADD spent :one",
                        ConditionExpression="attribute_not_exists(spent) OR spent < :limit",
                        ExpressionAttributeValues={":one": {"N": "1"}, ":limit": {"N": "40"}},
                    )
                    taken += 1
                except dynamodb.exceptions.ConditionalCheckFailedException:
                    continue
            return taken

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(spend, range(8))) == 40
        item = client("dynamodb", shared).get_item(TableName=LEDGER, Key={"pk": {"S": "budget"}})["Item"]
        assert item["spent"]["N"] == "40"

    def test_a_client_that_keeps_its_connection_open_keeps_nobody_waiting(self, shared: EmbeddedAddress) -> None:
        address = urlsplit(shared.endpoint_url)
        assert address.hostname is not None
        idle = [http.client.HTTPConnection(address.hostname, address.port, timeout=5) for _ in range(20)]
        try:
            for round_ in range(2):
                for connection in idle:  # each on the connection of the round before
                    connection.request("POST", "/", body=b"{}", headers=signed("DynamoDB_20120810.ListTables"))
                    answer = connection.getresponse()
                    assert (answer.status, REGISTRY in answer.read().decode()) == (200, True), round_
        finally:
            for connection in idle:
                connection.close()

    def test_the_region_a_client_signs_for_makes_no_difference(self, shared: EmbeddedAddress) -> None:
        assert set(client("dynamodb", shared, "eu-central-1").list_tables()["TableNames"]) >= {LEDGER, REGISTRY}


class TestTables:
    def test_they_have_the_designed_shape(self, shared: EmbeddedAddress) -> None:
        dynamodb = client("dynamodb", shared)
        for shape in shapes(SETTINGS):
            table = dynamodb.describe_table(TableName=shape.name)["Table"]
            ttl = dynamodb.describe_time_to_live(TableName=shape.name)["TimeToLiveDescription"]
            assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
            assert [key["AttributeName"] for key in table["KeySchema"]] == (["pk", "sk"] if shape.sorted else ["pk"])
            assert (ttl["TimeToLiveStatus"] == "ENABLED", ttl.get("AttributeName")) == (
                shape.expires,
                "ttl" if shape.expires else None,
            )
            stream = table.get("StreamSpecification", {})
            assert stream.get("StreamViewType") == ("NEW_AND_OLD_IMAGES" if shape.stream else None)

    def test_the_ledger_alone_streams_and_has_no_sort_key(self) -> None:
        ledger = next(shape for shape in shapes(SETTINGS) if shape.name == LEDGER)
        assert (ledger.stream, ledger.expires, ledger.sorted) == (True, True, False)
        assert [shape.name for shape in shapes(SETTINGS) if shape.stream] == [LEDGER]

    def test_making_them_again_changes_nothing(self, shared: EmbeddedAddress) -> None:
        dynamodb = client("dynamodb", shared)
        dynamodb.put_item(TableName=REGISTRY, Item={"pk": {"S": "catalog"}, "sk": {"S": "x"}})
        assert create_tables(dynamodb, SETTINGS) == []
        assert "Item" in dynamodb.get_item(TableName=REGISTRY, Key={"pk": {"S": "catalog"}, "sk": {"S": "x"}})


class TestWhatIsKept:
    EVERY_TYPE = {  # noqa: RUF012 - read only
        "pk": {"S": "every"},
        "n": {"N": "0.00123456789012345678901234567890"},
        "b": {"B": b"\x00\xff"},
        "l": {"L": [{"B": b"\x01"}, {"M": {"deep": {"N": "1"}, "none": {"NULL": True}}}, {"BOOL": False}]},
        "m": {"M": {"é": {"L": [{"S": "日本"}]}}},
        "ss": {"SS": ["a", "b"]},
        "ns": {"NS": ["1", "2.5"]},
        "bs": {"BS": [b"\x02"]},
    }

    def test_kill_9_loses_no_accepted_write(self, tmp_path: Path, start: Callable[[Path], EmbeddedAws]) -> None:
        first = start(tmp_path)
        dynamodb = client("dynamodb", first.address)
        create_tables(dynamodb, SETTINGS)
        dynamodb.put_item(TableName=LEDGER, Item=self.EVERY_TYPE)
        for name in ("updated", "deleted", "batch-deleted", "transacted-deleted"):
            dynamodb.put_item(TableName=LEDGER, Item={"pk": {"S": name}, "v": {"N": "1"}})
        update = {"UpdateExpression": "SET v = :two", "ExpressionAttributeValues": {":two": {"N": "2"}}}
        dynamodb.update_item(TableName=LEDGER, Key={"pk": {"S": "updated"}}, **update)
        dynamodb.delete_item(TableName=LEDGER, Key={"pk": {"S": "deleted"}})
        dynamodb.batch_write_item(
            RequestItems={
                REGISTRY: [{"PutRequest": {"Item": {"pk": {"S": "a"}, "sk": {"S": str(n)}}}} for n in range(3)],
                LEDGER: [{"DeleteRequest": {"Key": {"pk": {"S": "batch-deleted"}}}}],
            }
        )
        dynamodb.transact_write_items(
            TransactItems=[
                {"Update": {"TableName": LEDGER, "Key": {"pk": {"S": "transacted"}}, **update}},
                {"Delete": {"TableName": LEDGER, "Key": {"pk": {"S": "transacted-deleted"}}}},
                {"Put": {"TableName": REGISTRY, "Item": {"pk": {"S": "t"}, "sk": {"S": "0"}}}},
            ]
        )
        before = {name: dynamodb.scan(TableName=name)["Items"] for name in (LEDGER, REGISTRY)}
        kill(first)

        dynamodb = client("dynamodb", start(tmp_path).address)
        assert {name: dynamodb.scan(TableName=name)["Items"] for name in (LEDGER, REGISTRY)} == before
        ledger = {item["pk"]["S"]: item for item in before[LEDGER]}
        assert set(ledger) == {"every", "updated", "transacted"}
        assert ledger["updated"]["v"] == {"N": "2"}
        assert Decimal(ledger["every"]["n"]["N"]) == Decimal("0.00123456789012345678901234567890")
        assert ledger["every"]["b"] == {"B": b"\x00\xff"}
        assert ledger["every"]["l"] == self.EVERY_TYPE["l"]

    def test_settings_of_tables_come_back(self, tmp_path: Path, start: Callable[[Path], EmbeddedAws]) -> None:
        first = start(tmp_path)
        create_tables(client("dynamodb", first.address), SETTINGS)
        client("dynamodb", first.address).delete_table(TableName=SETTINGS.cache_table)
        kill(first)

        dynamodb = client("dynamodb", start(tmp_path).address)
        assert SETTINGS.cache_table not in dynamodb.list_tables()["TableNames"]
        ledger = dynamodb.describe_table(TableName=LEDGER)["Table"]
        assert ledger["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        ttl = dynamodb.describe_time_to_live(TableName=LEDGER)["TimeToLiveDescription"]
        assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}

    def test_restored_items_are_no_news_in_the_stream(
        self, tmp_path: Path, start: Callable[[Path], EmbeddedAws]
    ) -> None:
        first = start(tmp_path)
        dynamodb = client("dynamodb", first.address)
        create_tables(dynamodb, SETTINGS)
        dynamodb.put_item(TableName=LEDGER, Item={"pk": {"S": "old"}})
        kill(first)

        address = start(tmp_path).address
        client("dynamodb", address).put_item(TableName=LEDGER, Item={"pk": {"S": "new"}})
        streams = client("dynamodbstreams", address)
        arn = streams.list_streams(TableName=LEDGER)["Streams"][0]["StreamArn"]
        shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
        iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
        records = streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
        assert [record["dynamodb"]["Keys"]["pk"]["S"] for record in records] == ["new"]

    @pytest.mark.parametrize("known", [(), ("due",)])
    def test_tables_of_an_earlier_version_get_their_indexes(
        self, tmp_path: Path, start: Callable[[Path], EmbeddedAws], known: tuple[str, ...]
    ) -> None:
        dynamodb = client("dynamodb", start(tmp_path).address)
        (shape,) = [each for each in shapes(SETTINGS) if each.name == LEDGER]
        table = definition(shape)
        table["GlobalSecondaryIndexes"] = [
            each for each in table["GlobalSecondaryIndexes"] if each["IndexName"] in known
        ]
        used = {"pk", *(key["AttributeName"] for each in table["GlobalSecondaryIndexes"] for key in each["KeySchema"])}
        table["AttributeDefinitions"] = [
            each for each in table["AttributeDefinitions"] if each["AttributeName"] in used
        ]
        if not known:
            del table["GlobalSecondaryIndexes"]
        dynamodb.create_table(**table)
        for _ in range(2):
            create_tables(dynamodb, SETTINGS)
        indexes = dynamodb.describe_table(TableName=LEDGER)["Table"]["GlobalSecondaryIndexes"]
        assert {index["IndexName"] for index in indexes} == {"due", "listed"}

    def test_expired_items_stay_away(self, tmp_path: Path, start: Callable[[Path], EmbeddedAws]) -> None:
        first = start(tmp_path)
        dynamodb = client("dynamodb", first.address)
        create_tables(dynamodb, SETTINGS)
        for name, ttl in (("past", int(time.time()) - 5), ("future", int(time.time()) + 500)):
            dynamodb.put_item(TableName=LEDGER, Item={"pk": {"S": name}, "ttl": {"N": str(ttl)}})
        dynamodb.put_item(TableName=LEDGER, Item={"pk": {"S": "for ever"}})
        kill(first)

        items = client("dynamodb", start(tmp_path).address).scan(TableName=LEDGER)["Items"]
        assert {item["pk"]["S"] for item in items} == {"future", "for ever"}

    def test_secrets_come_back_with_their_last_value(
        self, tmp_path: Path, start: Callable[[Path], EmbeddedAws]
    ) -> None:
        first = start(tmp_path)
        manager = client("secretsmanager", first.address)
        manager.create_secret(Name="s/changed", SecretString="1", Tags=[{"Key": "k", "Value": "v"}])
        manager.put_secret_value(SecretId="s/changed", SecretString="2")
        manager.create_secret(Name="s/binary", SecretBinary=b"\x00\xff")
        for name in ("s/deleted", "s/scheduled"):
            manager.create_secret(Name=name, SecretString="x")
        arn = manager.create_secret(Name="s/by-arn", SecretString="x")["ARN"]
        manager.delete_secret(SecretId="s/deleted", ForceDeleteWithoutRecovery=True)
        manager.delete_secret(SecretId="s/scheduled")
        manager.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
        kill(first)

        manager = client("secretsmanager", start(tmp_path).address)
        assert {one["Name"]: one.get("Tags") or [] for one in manager.list_secrets()["SecretList"]} == {
            "s/changed": [{"Key": "k", "Value": "v"}],
            "s/binary": [],
        }
        assert manager.get_secret_value(SecretId="s/changed")["SecretString"] == "2"
        assert manager.get_secret_value(SecretId="s/binary")["SecretBinary"] == b"\x00\xff"

    def test_a_promoted_version_is_the_one_that_comes_back(
        self, tmp_path: Path, start: Callable[[Path], EmbeddedAws]
    ) -> None:
        first = start(tmp_path)
        manager = client("secretsmanager", first.address)
        for name in ("s/rotated", "s/rotated-and-set", "s/staged"):
            old = manager.create_secret(Name=name, SecretString="old")["VersionId"]
            new = manager.put_secret_value(SecretId=name, SecretString="new", VersionStages=["AWSPENDING"])["VersionId"]
            if name != "s/staged":
                manager.update_secret_version_stage(
                    SecretId=name, VersionStage="AWSCURRENT", RemoveFromVersionId=old, MoveToVersionId=new
                )
        manager.put_secret_value(SecretId="s/rotated-and-set", SecretString="newest")

        def current(name: str) -> str:
            text: str = manager.get_secret_value(SecretId=name, VersionStage="AWSCURRENT")["SecretString"]
            return text

        expected = {"s/rotated": "new", "s/rotated-and-set": "newest", "s/staged": "old"}
        assert {name: current(name) for name in expected} == expected
        kill(first)

        manager = client("secretsmanager", start(tmp_path).address)
        assert {name: current(name) for name in expected} == expected

    def test_only_the_user_can_read_the_files(self, tmp_path: Path, start: Callable[[Path], EmbeddedAws]) -> None:
        start(tmp_path)
        assert (tmp_path / "aws.sqlite").stat().st_mode & 0o077 == 0
        assert (tmp_path / STATE_FILE).stat().st_mode & 0o077 == 0

    def test_a_damaged_file_is_named(self, tmp_path: Path, bare_environ: dict[str, str]) -> None:
        (tmp_path / "aws.sqlite").write_text("no database, however long this text is made to be" * 20)
        with pytest.raises(EmbeddedAwsFailed, match=r"aws\.sqlite cannot be read .* move it away"):
            Starting(tmp_path, outlive=False, environ=bare_environ).wait()


class TestLife:
    """Who starts it, who may use it, when it ends."""

    PARENT = (
        "import os, sys, time; from pathlib import Path\n"
        "from llm_gateway.local.embedded_address import Starting\n"
        "Starting(Path(sys.argv[1]), outlive=sys.argv[2] == 'outlive', environ=dict(os.environ)).wait()\n"
        "print('up', flush=True); time.sleep(60)"
    )

    def crash_a_parent(self, data: Path, environ: dict[str, str], word: str) -> None:
        parent = subprocess.Popen(
            [sys.executable, "-c", self.PARENT, str(data), word], env=environ, stdout=subprocess.PIPE
        )
        assert parent.stdout is not None
        with parent, parent.stdout:
            assert parent.stdout.readline() == b"up\n"
            parent.kill()

    def test_it_ends_soon_after_its_parent(self, tmp_path: Path, bare_environ: dict[str, str]) -> None:
        self.crash_a_parent(tmp_path, bare_environ, "follow")
        assert attach(tmp_path) is None  # waits for its end
        assert not is_locked(tmp_path / LOCK_FILE)

    def test_it_outlives_a_crash_if_told_to_and_the_next_gateway_ends_it(
        self, tmp_path: Path, bare_environ: dict[str, str]
    ) -> None:
        self.crash_a_parent(tmp_path, bare_environ, "outlive")
        time.sleep(1.2)  # twice the time in which it looks after its parent
        aws = attach(tmp_path)
        assert aws is not None
        assert client("dynamodb", aws.address).list_tables()["TableNames"] == []
        aws.stop()
        assert aws.ended()

    def test_a_persons_own_is_used_and_left_alone(self, tmp_path: Path, bare_environ: dict[str, str]) -> None:
        command = [sys.executable, "-m", "llm_gateway.local.cli", "local-aws", "--port", "0", "--data", str(tmp_path)]
        with subprocess.Popen(command, env=bare_environ, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("embedded AWS ready: http://127.0.0.1:")
            aws = attach(tmp_path)
            assert aws is not None
            assert aws.address.pid == process.pid
            aws.stop()
            time.sleep(0.3)
            assert not aws.ended()
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        assert not (tmp_path / STATE_FILE).exists()

    def test_two_do_not_share_a_directory(
        self, tmp_path: Path, start: Callable[[Path], EmbeddedAws], bare_environ: dict[str, str]
    ) -> None:
        start(tmp_path)
        with pytest.raises(EmbeddedAwsFailed, match="another one already serves"):
            Starting(tmp_path, outlive=False, environ=bare_environ).wait()

    def test_an_address_left_by_a_crash_misleads_nobody(
        self, tmp_path: Path, start: Callable[[Path], EmbeddedAws]
    ) -> None:
        stale = EmbeddedAddress("http://127.0.0.1:1", "local", "local", os.getpid(), parent=None, outlive=True)
        stale.write(tmp_path / STATE_FILE)
        assert attach(tmp_path) is None
        assert start(tmp_path).address.endpoint_url != stale.endpoint_url

    def test_it_gets_nobodys_credentials(self, tmp_path: Path, bare_environ: dict[str, str]) -> None:
        theirs = {"AWS_SECRET_ACCESS_KEY": "theirs", "OPENAI_API_KEY": "sk-theirs", "GITHUB_TOKEN": "theirs"}
        aws = Starting(tmp_path, outlive=False, environ={**bare_environ, **theirs}).wait()
        try:
            environ = Path(f"/proc/{aws.address.pid}/environ")
            if not environ.exists():
                pytest.skip("only Linux shows the environment of a process")
            assert b"theirs" not in environ.read_bytes()
            assert b"PYTHONPATH" in environ.read_bytes()
        finally:
            aws.stop()


def signed(target: str) -> dict[str, str]:
    scope = "local/20260101/us-east-1/dynamodb/aws4_request"
    return {
        "X-Amz-Target": target,
        "Content-Type": "application/x-amz-json-1.0",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
    }


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        pytest.param("POST", "/", {}, 200, id="a-process"),
        pytest.param("POST", "/", {"Host": "localhost:1"}, 200, id="localhost"),
        pytest.param("POST", "/", {"Origin": "https://evil.example"}, 403, id="a-web-page"),
        pytest.param("OPTIONS", "/", {"Origin": "null"}, 403, id="a-preflight"),
        pytest.param("POST", "/", {"Host": "evil.example:80"}, 403, id="dns-rebinding"),
        pytest.param("POST", "/moto-api/reset", {}, 403, id="motos-own-interface"),
    ],
)
def test_who_is_answered(shared: EmbeddedAddress, method: str, path: str, headers: dict[str, str], status: int) -> None:
    address = urlsplit(shared.endpoint_url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=5)
    try:
        connection.request(method, path, body=b"{}", headers={**signed("DynamoDB_20120810.ListTables"), **headers})
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    assert answer.status == status, body
    if status == 200:
        assert LEDGER in json.loads(body)["TableNames"]


def test_an_unknown_table_is_the_real_error(shared: EmbeddedAddress) -> None:
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        client("dynamodb", shared).get_item(TableName="nowhere", Key={"pk": {"S": "x"}})


def test_a_definition_is_what_create_table_takes() -> None:
    assert definition(next(shape for shape in shapes(SETTINGS) if shape.name == LEDGER)) == {
        "TableName": LEDGER,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "due", "AttributeType": "S"},
            {"AttributeName": "expires", "AttributeType": "N"},
            {"AttributeName": "listed", "AttributeType": "S"},
            {"AttributeName": "at", "AttributeType": "N"},
        ],
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        "GlobalSecondaryIndexes": [
            {
                "IndexName": "due",
                "KeySchema": [
                    {"AttributeName": "due", "KeyType": "HASH"},
                    {"AttributeName": "expires", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            },
            {
                "IndexName": "listed",
                "KeySchema": [
                    {"AttributeName": "listed", "KeyType": "HASH"},
                    {"AttributeName": "at", "KeyType": "RANGE"},
                ],
                "Projection": {
                    "ProjectionType": "INCLUDE",
                    "NonKeyAttributes": ["team", "key", "user", "model", "routed", "provider", "status"],
                },
            },
        ],
    }
