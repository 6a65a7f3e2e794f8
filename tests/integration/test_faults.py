"""What `make faults` tries, with every clock compressed: each behaviour of a provider, on each wire, must end well.

All runs that are asked for go on at once, in a fixture; each test holds one of them against what was expected.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal

import openai
import pytest

from llm_gateway.domain.usage import RequestRecord
from tests.fakes.faulty_wires import TEXT
from tests.faults import flapping
from tests.faults.answers import Got
from tests.faults.cases import CASES
from tests.faults.stage import Result, Run, Stage, runs_of
from tests.faults.verdict import faults_of

RUNS = {
    run.id: run
    for run in runs_of(CASES)
    if run.wire.dialect == "openai_chat" or (run.spared and run.mode == "stream")  # the rest is `make faults`'
}
HEALTHY = RUNS["healthy/openai_chat/stream/alone"]


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    params = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    wanted = {spec.params["run"] for spec in params if spec is not None and "run" in spec.params}
    with Stage([run for name, run in RUNS.items() if name in wanted or run is HEALTHY]) as stage:
        yield stage


@pytest.fixture(scope="module")
def results(stage: Stage) -> Mapping[str, Result]:
    return stage.play()


@pytest.mark.parametrize("run", RUNS)
def test_nothing_a_provider_does_breaks_a_request(results: Mapping[str, Result], run: str) -> None:
    faults = faults_of(results[run])
    assert not faults, "\n".join(faults)


def test_nothing_is_left_behind(stage: Stage, results: Mapping[str, Result]) -> None:
    assert stage.leaks() == []


def test_a_flapping_primary_is_left_alone_and_taken_back() -> None:
    assert flapping.flap().faults() == []


WRONG: dict[str, Callable[[Result], Result]] = {
    "a truncated success": lambda right: replace(right, got=_got(right, text=TEXT[:20])),
    "an answer without its end": lambda right: replace(right, got=_got(right, done=False)),
    "a hang": lambda right: replace(right, got=_got(right, seconds=25.0)),
    "a success that was an error": lambda right: replace(right, got=_got(right, error={"message": "no"})),
    "two ids": lambda right: replace(right, got=_got(right, ids={"a", "b"})),
    "a hammered provider": lambda right: replace(right, primary=[right.primary[0]] * 5),
    "a call to a provider that nobody needed": lambda right: replace(right, spare=right.primary),
    "no record": lambda right: replace(right, record=None),
    "a bill a millionth too high": lambda right: replace(right, record=_billed(right, "0.000171")),
    "a bill of nothing": lambda right: replace(right, record=_billed(right, "0")),
    "a hold that is left": lambda right: replace(right, holds=1),
    "a call that goes on": lambda right: replace(right, unfinished=1),
    "a gateway that answers no more": lambda right: replace(right, after=Got(status=500)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_noticed(results: Mapping[str, Result], wrong: str) -> None:
    right = results[HEALTHY.id]
    assert faults_of(right) == []
    assert faults_of(WRONG[wrong](right))


def _got(right: Result, **wrong: object) -> Got:
    return replace(right.got, **wrong)  # type: ignore[arg-type]  # each is of its field's type


def _billed(right: Result, usd: str) -> RequestRecord:
    assert right.record is not None
    return replace(right.record, cost_usd=Decimal(usd))


# -- through the SDK that callers have --------------------------------------------------------------------------------


@pytest.fixture
def client_of() -> Iterator[Callable[[str], tuple[openai.OpenAI, str]]]:
    """A client with a run's key, and the run's model."""
    open_ones: list[Callable[[], None]] = []

    def make(run_id: str) -> tuple[openai.OpenAI, str]:
        run: Run = RUNS[run_id]
        stage = Stage([run]).__enter__()
        client = openai.OpenAI(api_key=run.key, base_url=stage.app.base_url, max_retries=0, timeout=20)
        open_ones.extend([client.close, lambda: stage.__exit__(None, None, None)])
        return client, f"run-{run.number}"

    yield make
    for close in open_ones:
        close()


def read(client: openai.OpenAI, model: str, said: list[str]) -> str | None:
    """The finish reason; `said` is filled on the way."""
    finish = None
    for chunk in client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Tell me of the flood."}], stream=True
    ):
        for choice in chunk.choices:
            said.append(choice.delta.content or "")
            finish = choice.finish_reason or finish
    return finish


@pytest.mark.parametrize(
    "dialect", ["openai_chat", "anthropic_messages", "gemini_generate_content", "bedrock_converse"]
)
@pytest.mark.parametrize("case", ["cut in mid-stream", "stall", "silence", "500", "429 for long"])
def test_the_sdk_reads_one_whole_answer(
    client_of: Callable[[str], tuple[openai.OpenAI, str]], case: str, dialect: str
) -> None:
    said: list[str] = []
    assert read(*client_of(f"{case}/{dialect}/stream/spared"), said) == "stop"
    assert "".join(said) == TEXT


def test_the_sdk_raises_in_the_stream_where_nobody_can_go_on(
    client_of: Callable[[str], tuple[openai.OpenAI, str]],
) -> None:
    said: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        read(*client_of("stall/openai_chat/stream/alone"), said)
    assert caught.value.code == "upstream_timeout"
    assert TEXT.startswith("".join(said))
    assert len("".join(said).split()) == 5


@pytest.mark.parametrize(
    ("case", "error", "status"),
    [
        ("429 for long", openai.RateLimitError, 429),
        ("500", openai.InternalServerError, 502),
        ("silence", openai.InternalServerError, 504),
        ("context length", openai.BadRequestError, 400),
        ("401", openai.AuthenticationError, 401),
    ],
)
def test_the_sdk_raises_what_it_would_of_openai(
    client_of: Callable[[str], tuple[openai.OpenAI, str]], case: str, error: type[openai.APIStatusError], status: int
) -> None:
    with pytest.raises(error) as caught:
        read(*client_of(f"{case}/openai_chat/stream/alone"), [])
    assert caught.value.status_code == status
