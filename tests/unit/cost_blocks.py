"""Usage blocks as providers send them, with what each costs: the data of test_cost_table.py.

`source` says where the block is from; one that begins with `shape:` has the documented members and counts of ours.
CASSETTES are recorded answers of the providers, in https://github.com/pydantic/genai-prices/blob/main/tests/dataset/usages.json.
`differs` explains, with its source, why genai-prices comes to another cost than the provider.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Wire = Literal["openai", "embeddings", "anthropic", "converse", "gemini"]

CASSETTES = "recorded: genai-prices, tests/dataset/usages.json"
CHAT = "https://platform.openai.com/docs/api-reference/chat/create"
CACHING = "https://platform.claude.com/docs/en/build-with-claude/prompt-caching"
STREAMING = "https://platform.claude.com/docs/en/build-with-claude/streaming"
GEMINI = "https://ai.google.dev/api/generate-content#UsageMetadata"
CONVERSE = "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html"
GROUNDING = "https://ai.google.dev/gemini-api/docs/google-search"
MODALITIES = "https://ai.google.dev/gemini-api/docs/tokens#multimodal-tokens"


@dataclass(frozen=True)
class Block:
    source: str
    provider: str
    model: str
    wire: Wire
    usage: Mapping[str, Any]
    cost: str
    beside: Mapping[str, Any] = field(default_factory=dict)
    """Members of the answer beside its usage: the tier that served, what was searched."""
    flavor: str = ""
    """genai-prices' name for the shape of the block, where it is not the wire's usual one."""
    asked_tier: str | None = None
    differs: str | None = None


def chat(prompt: int, completion: int, cached: int = 0, reasoning: int = 0, **more: Any) -> dict[str, Any]:
    """OpenAI's object in full."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        **more,
    }


def responses(read: int, written: int, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    """The names of OpenAI's Responses and Images APIs."""
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": read + written,
    }


def claude(read: int, written: int, cached: int = 0, created: int = 0, hour: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "input_tokens": read,
        "cache_creation_input_tokens": created,
        "cache_read_input_tokens": cached,
        "cache_creation": {"ephemeral_5m_input_tokens": created - hour, "ephemeral_1h_input_tokens": hour},
        "output_tokens": written,
        **more,
    }


def gemini(prompt: int, candidates: int, thoughts: int = 0, cached: int = 0, **more: Any) -> dict[str, Any]:
    counts = {"promptTokenCount": prompt, "candidatesTokenCount": candidates}
    if thoughts:
        counts["thoughtsTokenCount"] = thoughts
    if cached:
        counts["cachedContentTokenCount"] = cached
    return {**counts, "totalTokenCount": prompt + candidates + thoughts, **more}


def media(**counts: int) -> list[dict[str, Any]]:
    return [{"modality": name.upper(), "tokenCount": count} for name, count in counts.items()]


def converse(read: int, written: int, cached: int = 0, created: int = 0, hour: int = 0) -> dict[str, Any]:
    usage: dict[str, Any] = {"inputTokens": read, "outputTokens": written, "totalTokens": read + written}
    if cached or created:
        usage |= {"cacheReadInputTokens": cached, "cacheWriteInputTokens": created}
    if hour:
        usage["cacheDetails"] = [
            {"ttl": "1h", "inputTokens": hour},
            {"ttl": "5m", "inputTokens": created - hour},
        ]
    return usage


def grounded(*queries: str) -> dict[str, Any]:
    return {"groundingMetadata": {"webSearchQueries": list(queries)}}


OPENAI = [
    Block(CHAT, "openai", "gpt-4.1-2025-04-14", "openai", chat(19, 10), "0.000118", {"service_tier": "default"}),
    Block(f"{CHAT} (functions)", "openai", "gpt-4o-mini", "openai",
          {"prompt_tokens": 82, "completion_tokens": 17, "total_tokens": 99}, "0.0000225"),
    Block(f"{CHAT} (image input)", "openai", "gpt-4.1", "openai", chat(1117, 46), "0.002602"),
    Block(f"{CHAT} (logprobs)", "openai", "gpt-4o-mini", "openai",
          {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}, "0.00000675"),
    Block("https://platform.openai.com/docs/guides/prompt-caching", "openai", "gpt-4o-2024-08-06", "openai",
          chat(2006, 300, cached=1920), "0.005615"),
    Block("https://platform.openai.com/docs/guides/reasoning", "openai", "gpt-5", "openai",
          responses(75, 1186, reasoning=1024), "0.01195375", flavor="responses"),
    Block(CASSETTES, "openai", "gpt-4o-2024-08-06", "openai", chat(1119, 10), "0.0028975"),
    Block(CASSETTES, "openai", "gpt-4o-2024-08-06", "openai", chat(1332, 19), "0.00352"),
    Block(CASSETTES, "openai", "gpt-5-2025-08-07", "openai", responses(124, 1926, reasoning=1792), "0.019415",
          flavor="responses"),
    Block(CASSETTES, "openai", "gpt-5-2025-08-07", "openai", responses(2087, 124, cached=2048), "0.00154475", flavor="responses"),
    Block(CASSETTES, "openai", "gpt-5-2025-08-07", "openai", responses(115_886, 1720, cached=92_160, reasoning=1472),
          "0.0583775", flavor="responses"),
    Block(CASSETTES, "openai", "o3-mini-2025-01-31", "openai", responses(13, 2241, reasoning=1856), "0.0098747",
          flavor="responses"),
    Block(CASSETTES, "openai", "gpt-4.1-2025-04-14", "openai", responses(61, 56), "0.00057", flavor="responses"),
    Block("shape: https://platform.openai.com/docs/guides/flex-processing", "openai", "gpt-5", "openai",
          chat(12_000, 900, cached=4096, reasoning=640), "0.009696", {"service_tier": "flex"}),
    Block("shape: https://platform.openai.com/docs/guides/priority-processing", "openai", "gpt-5.1", "openai",
          chat(12_000, 900, cached=4096, reasoning=640), "0.038784", {"service_tier": "priority"}),
    Block("shape: https://developers.openai.com/api/docs/guides/fast-mode", "openai", "gpt-4.1", "openai",
          chat(3000, 500), "0.0175", {"service_tier": "fast"}),
    Block("shape: asked for flex, served as default", "openai", "gpt-5", "openai", chat(1200, 90), "0.0024",
          {"service_tier": "default"}, asked_tier="flex"),
    Block("shape: asked for flex, and the answer says nothing", "openai", "o3", "openai", chat(1200, 90), "0.00156",
          asked_tier="flex"),
    Block("shape: https://platform.openai.com/docs/pricing (above 272,000 tokens)", "openai", "gpt-5.4", "openai",
          chat(300_000, 2000, cached=100_000), "1.095", {"service_tier": "default"}),
    Block("shape: https://platform.openai.com/docs/pricing (above 272,000 tokens, flex)", "openai", "gpt-5.4", "openai",
          chat(300_000, 2000, cached=100_000), "0.5475", {"service_tier": "flex"}),
    Block("shape: https://platform.openai.com/docs/guides/audio", "openai", "gpt-audio", "openai",
          {"prompt_tokens": 164, "completion_tokens": 331, "total_tokens": 495,
           "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 120, "text_tokens": 44},
           "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 260, "text_tokens": 71}}, "0.0213"),
    Block("https://platform.openai.com/docs/api-reference/images/object", "openai", "gpt-image-1", "openai",
          {"total_tokens": 100, "input_tokens": 50, "output_tokens": 50,
           "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}}, "0.00245", flavor="images"),
    Block("shape: https://platform.openai.com/docs/api-reference/images/object", "openai", "gpt-image-1.5", "openai",
          {"total_tokens": 5000, "input_tokens": 900, "output_tokens": 4100,
           "input_tokens_details": {"text_tokens": 100, "image_tokens": 800},
           "output_tokens_details": {"text_tokens": 84, "image_tokens": 4016}}, "0.136252", flavor="images"),
    Block("https://platform.openai.com/docs/api-reference/embeddings/create", "openai", "text-embedding-ada-002",
          "embeddings", {"prompt_tokens": 8, "total_tokens": 8}, "0.0000008", flavor="embeddings"),
    Block("https://platform.openai.com/docs/guides/embeddings", "openai", "text-embedding-3-small", "embeddings",
          {"prompt_tokens": 5, "total_tokens": 5}, "0.0000001", flavor="embeddings"),
    Block("https://learn.microsoft.com/en-us/azure/ai-services/openai/reference", "azure_openai", "gpt-4o", "openai",
          {"completion_tokens": 557, "prompt_tokens": 33, "total_tokens": 590}, "0.0056525"),
]  # fmt: skip

COMPATIBLE = [
    Block("https://api-docs.deepseek.com/api/create-chat-completion", "deepseek", "deepseek-chat", "openai",
          {"completion_tokens": 10, "prompt_tokens": 16, "total_tokens": 26}, "0.00001532"),
    Block("shape: https://api-docs.deepseek.com/guides/kv_cache", "deepseek", "deepseek-chat", "openai",
          {"completion_tokens": 200, "prompt_tokens": 3000, "total_tokens": 3200, "prompt_cache_hit_tokens": 2944,
           "prompt_cache_miss_tokens": 56}, "0.0004412",
          differs="prompt_cache_hit_tokens is billed as cached, https://api-docs.deepseek.com/quick_start/pricing; the "
                  "extractor reads prompt_tokens_details alone"),
    Block("https://console.groq.com/docs/api-reference#chat-create", "groq", "llama-3.3-70b-versatile", "openai",
          {"queue_time": 0.037493756, "prompt_tokens": 18, "prompt_time": 0.000680594, "completion_tokens": 556,
           "completion_time": 0.463333333, "total_tokens": 574, "total_time": 0.464013927}, "0.00044986",
          {"service_tier": "on_demand"}, flavor="default"),
    Block("https://docs.mistral.ai/api/", "mistral", "mistral-small-latest", "openai",
          {"prompt_tokens": 16, "completion_tokens": 34, "total_tokens": 50}, "0.0000118", flavor="default"),
    Block("https://docs.x.ai/docs/api-reference#chat-completions", "xai", "grok-4", "openai",
          {"prompt_tokens": 37, "completion_tokens": 530, "total_tokens": 800,
           "prompt_tokens_details": {"text_tokens": 37, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 8},
           "completion_tokens_details": {"reasoning_tokens": 233, "audio_tokens": 0}, "num_sources_used": 0}, "0.011538"),
    Block("https://docs.x.ai/developers/cost-tracking", "xai", "grok-4", "openai",
          {"prompt_tokens": 199, "completion_tokens": 1, "total_tokens": 200, "cost_in_usd_ticks": 37_756_000}, "0.0037756",
          differs="the provider says what it bills, https://docs.x.ai/developers/cost-tracking"),
    Block("https://openrouter.ai/docs/use-cases/usage-accounting", "openrouter", "openai/gpt-4o", "openai",
          {"completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 0}, "cost": 0.95,
           "cost_details": {"upstream_inference_cost": 19}, "prompt_tokens": 194,
           "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 100, "audio_tokens": 0},
           "total_tokens": 196}, "0.95",
          differs="the provider says what it bills, https://openrouter.ai/docs/use-cases/usage-accounting"),
    Block("https://docs.perplexity.ai/api-reference/chat-completions-post", "perplexity", "sonar-pro", "openai",
          {"prompt_tokens": 8, "completion_tokens": 439, "total_tokens": 447, "search_context_size": "low",
           "cost": {"input_tokens_cost": 2.4e-05, "output_tokens_cost": 0.006585, "request_cost": 0.006,
                    "total_cost": 0.012609}}, "0.012609", flavor="default",
          differs="the fee for a low search context is $6 a thousand, https://docs.perplexity.ai/getting-started/pricing; "
                  "genai-prices has the one for a high context"),
    Block("shape: https://docs.perplexity.ai/getting-started/pricing", "perplexity", "sonar", "openai",
          {"prompt_tokens": 14, "completion_tokens": 300, "total_tokens": 314}, "0.012314", flavor="default"),
    Block("https://docs.perplexity.ai/getting-started/pricing (deep research)", "perplexity", "sonar-deep-research",
          "openai", {"prompt_tokens": 33, "completion_tokens": 7163, "total_tokens": 7196, "citation_tokens": 20_016,
                     "num_search_queries": 18, "reasoning_tokens": 73_997}, "0.409393", flavor="default"),
    Block("shape: https://docs.cohere.com/docs/compatibility-api", "cohere", "command-r-plus", "openai",
          {"prompt_tokens": 63, "completion_tokens": 230, "total_tokens": 293}, "0.0024575",
          differs="the extractor reads Cohere's own wire; the endpoint that is called speaks OpenAI's, "
                  "https://docs.cohere.com/docs/compatibility-api"),
]  # fmt: skip

ANTHROPIC = [
    Block("https://platform.claude.com/docs/en/api/messages/create", "anthropic", "claude-opus-5", "anthropic",
          claude(2095, 503, service_tier="standard"), "0.02305"),
    Block(CASSETTES, "anthropic", "claude-sonnet-4-5-20250929", "anthropic", claude(14, 65, service_tier="standard"), "0.001017"),
    Block(CASSETTES, "anthropic", "claude-sonnet-4-20250514", "anthropic", claude(458, 38, service_tier="standard"), "0.001944"),
    Block(CASSETTES, "anthropic", "claude-sonnet-4-20250514", "anthropic",
          claude(1683, 113, service_tier="standard", server_tool_use={"web_search_requests": 0}), "0.006744"),
    Block(STREAMING, "anthropic", "claude-opus-4-1", "anthropic", {"input_tokens": 25, "output_tokens": 15}, "0.0015"),
    Block(f"{STREAMING} (tool use)", "anthropic", "claude-opus-4-1", "anthropic",
          {"input_tokens": 472, "output_tokens": 89}, "0.013755"),
    Block(f"{STREAMING} (web search)", "anthropic", "claude-opus-4-1", "anthropic",
          claude(10_682, 510, server_tool_use={"web_search_requests": 1}), "0.20848"),
    Block("https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool", "anthropic",
          "claude-sonnet-4-5", "anthropic",
          claude(105, 6039, cached=7123, created=7345, server_tool_use={"web_search_requests": 1}), "0.13058065"),
    Block(CACHING, "anthropic", "claude-sonnet-4-5", "anthropic", claude(21, 393, created=188_086), "0.7112805"),
    Block(CACHING, "anthropic", "claude-sonnet-4-5", "anthropic", claude(21, 393, cached=188_086), "0.0623838"),
    Block(f"{CACHING} (one hour)", "anthropic", "claude-opus-4-5", "anthropic",
          {"input_tokens": 2048, "cache_read_input_tokens": 1800, "cache_creation_input_tokens": 248,
           "output_tokens": 503, "cache_creation": {"ephemeral_5m_input_tokens": 148,
                                                    "ephemeral_1h_input_tokens": 100}}, "0.02564"),
    Block("shape: https://platform.claude.com/docs/en/build-with-claude/thinking", "anthropic", "claude-opus-5-5",
          "anthropic", claude(90, 1500, output_tokens_details={"thinking_tokens": 1200}), "0.03036"),
    Block("shape: https://platform.claude.com/docs/en/about-claude/pricing (above 200,000 tokens)", "anthropic",
          "claude-sonnet-4-5", "anthropic", claude(160_000, 999, cached=50_000, created=20_000, hour=5000), "1.1849775"),
    Block("shape: https://platform.claude.com/docs/en/about-claude/pricing (1M at one price)", "anthropic",
          "claude-sonnet-5", "anthropic", claude(900_000, 2000, cached=50_000), "1.83"),
    Block("shape: https://platform.claude.com/docs/en/about-claude/pricing (above 100,000 tokens)", "anthropic",
          "claude-haiku-5-5", "anthropic", claude(120_000, 700), "0.06175"),
    Block("https://platform.claude.com/docs/en/api/service-tiers", "anthropic", "claude-opus-4-5", "anthropic",
          claude(410, 585, service_tier="priority"), "0.016675"),
    Block("https://platform.claude.com/docs/en/build-with-claude/batch-processing", "anthropic", "claude-opus-5",
          "anthropic", claude(11, 36, service_tier="batch"), "0.0004775"),
    Block("https://platform.claude.com/docs/en/build-with-claude/data-residency", "anthropic", "claude-opus-4-6",
          "anthropic", {"input_tokens": 25, "output_tokens": 150, "inference_geo": "us"}, "0.0042625",
          differs="US-only inference costs 1.1 times as much, "
                  "https://platform.claude.com/docs/en/about-claude/pricing#data-residency-pricing"),
    Block("https://platform.claude.com/docs/en/build-with-claude/fast-mode", "anthropic", "claude-opus-4-6",
          "anthropic", {"input_tokens": 523, "output_tokens": 1842, "speed": "fast"}, "0.29199",
          differs="fast mode costs $30 and $150, https://platform.claude.com/docs/en/build-with-claude/fast-mode"),
    Block("shape: fast and in the US", "anthropic", "claude-opus-5", "anthropic",
          {"input_tokens": 1000, "output_tokens": 100, "speed": "fast", "inference_geo": "us"}, "0.0165",
          differs="the factors multiply each other, https://platform.claude.com/docs/en/build-with-claude/fast-mode"),
]  # fmt: skip

GOOGLE = [
    Block(CASSETTES, "gemini", "gemini-2.0-flash", "gemini",
          gemini(13, 35, promptTokensDetails=media(text=13), candidatesTokensDetails=media(text=35),
                 toolUsePromptTokenCount=31, toolUsePromptTokensDetails=media(text=31)), "0.0000184"),
    Block(CASSETTES, "google_vertex", "gemini-2.0-flash", "gemini",
          gemini(16_824, 126, promptTokensDetails=media(text=9, audio=1475, video=15_340),
                 candidatesTokensDetails=media(text=126), trafficType="ON_DEMAND"), "0.0026178"),
    Block(CASSETTES, "google_vertex", "gemini-2.0-flash", "gemini",
          gemini(159, 32, promptTokensDetails=media(text=9, audio=150), trafficType="ON_DEMAND"), "0.0001187"),
    Block(CASSETTES, "google_vertex", "gemini-2.0-flash", "gemini",
          gemini(19_875, 299, promptTokensDetails=media(text=9, document=19_866), trafficType="ON_DEMAND"), "0.0021071"),
    Block(CASSETTES, "google_vertex", "gemini-2.0-flash", "gemini",
          gemini(2589, 40, promptTokensDetails=media(text=9, image=2580), trafficType="ON_DEMAND"), "0.0002749"),
    Block(CASSETTES, "gemini", "gemini-2.5-flash-preview-04-17", "gemini",
          gemini(801, 1519, thoughts=794, promptTokensDetails=media(text=801)), "0.00150795"),
    Block(CASSETTES, "gemini", "models/gemini-2.5-pro-preview-05-06", "gemini",
          gemini(9, 44, thoughts=545, promptTokensDetails=media(text=9)), "0.00590125",
          differs="genai-prices finds no model by its resource name, https://ai.google.dev/api/models"),
    Block("https://ai.google.dev/gemini-api/docs/caching", "gemini", "gemini-2.5-flash", "gemini",
          gemini(696_219, 214, cached=696_190), "0.0214294"),
    Block(f"shape: {GEMINI}", "gemini", "gemini-2.5-pro", "gemini", gemini(200_001, 8192, thoughts=6000, cached=100_000), "0.4878825"),
    Block(f"shape: {GEMINI}", "gemini", "gemini-3-pro-preview", "gemini", gemini(200_000, 8192, thoughts=6000), "0.570304"),
    Block(f"shape: {MODALITIES}", "gemini", "gemini-2.5-flash", "gemini",
          gemini(50_000, 10, cached=8000, promptTokensDetails=media(text=10_000, audio=40_000),
                 cacheTokensDetails=media(text=3000, audio=5000)), "0.037715"),
    Block("shape: https://ai.google.dev/gemini-api/docs/image-generation", "gemini", "gemini-2.5-flash-image", "gemini",
          gemini(258, 1300, promptTokensDetails=media(image=258), candidatesTokensDetails=media(text=10, image=1290)), "0.0388024"),
    Block("shape: https://ai.google.dev/gemini-api/docs/image-generation", "gemini", "gemini-3-pro-image-preview",
          "gemini", gemini(40, 1120, thoughts=300, candidatesTokensDetails=media(image=1120)), "0.13808"),
    Block(f"shape: {GROUNDING}", "gemini", "gemini-2.5-flash", "gemini", gemini(30, 200), "0.035509",
          grounded("UEFA Euro 2024 winner", "who won euro 2024"),
          differs=f"one fee of $35 a thousand for a grounded prompt, however many queries, {GROUNDING}#pricing; the "
                  "extractor counts none"),
    Block(f"shape: {GROUNDING}", "gemini", "gemini-3-pro-preview", "gemini", gemini(30, 200), "0.03046",
          grounded("UEFA Euro 2024 winner", "", "who won euro 2024", "UEFA Euro 2024 winner"),
          differs=f"$14 a thousand queries that differ and are not empty, {GROUNDING}#pricing; the extractor counts none"),
    Block("shape: https://ai.google.dev/gemini-api/docs/flex-inference", "gemini", "gemini-2.5-pro", "gemini",
          gemini(1000, 100, serviceTier="flex"), "0.001125",
          differs="half the standard price, https://ai.google.dev/gemini-api/docs/optimization"),
    Block("shape: https://ai.google.dev/gemini-api/docs/priority-inference", "gemini", "gemini-2.5-pro", "gemini",
          gemini(1000, 100, serviceTier="priority"), "0.00405",
          differs="1.8 times the standard price, https://ai.google.dev/gemini-api/docs/optimization"),
    Block("shape: priority that was served as standard", "gemini", "gemini-2.5-pro", "gemini",
          gemini(1000, 100, serviceTier="standard"), "0.00225", asked_tier="priority"),
    Block("shape: trafficType of a flex request", "google_vertex", "gemini-2.5-flash", "gemini",
          gemini(1000, 100, trafficType="ON_DEMAND_FLEX"), "0.000275",
          differs="half the standard price, https://cloud.google.com/vertex-ai/generative-ai/pricing"),
]  # fmt: skip

BEDROCK = [
    Block("https://docs.aws.amazon.com/bedrock/latest/userguide/conversation-inference-call.html", "bedrock",
          "amazon.nova-lite-v1:0", "converse", converse(30, 628), "0.00015252"),
    Block(f"shape: {CONVERSE}", "bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "converse",
          converse(1000, 100, cached=4000, created=1300), "0.0116325"),
    Block(f"shape: {CONVERSE}", "bedrock", "anthropic.claude-haiku-4-5-20251001-v1:0", "converse",
          converse(10, 2, cached=2000, created=1300, hour=300), "0.002277"),
    Block(f"shape: {CONVERSE}", "bedrock", "amazon.nova-pro-v1:0", "converse", converse(412, 9, cached=1024), "0.0005632"),
    Block("shape: https://docs.aws.amazon.com/bedrock/latest/userguide/service-tiers-inference.html", "bedrock",
          "amazon.nova-pro-v1:0", "converse", converse(412, 9), "0.0003584", {"serviceTier": {"type": "default"}}),
]  # fmt: skip

BLOCKS = [*OPENAI, *COMPATIBLE, *ANTHROPIC, *GOOGLE, *BEDROCK]
