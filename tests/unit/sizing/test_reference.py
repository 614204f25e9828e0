"""Every reference figure: parameters, caches and operations exactly, sizes to 0.01 GiB.

Counted on models instantiated without memory and with a FLOP counter; the further totals of the catalogue were counted
in the same way with transformers 5.23. (DeepSeek-V3's and MiniMax-M2's routers keep one stored correction an expert.)
"""

from __future__ import annotations

import pytest

from pilotfish.sizing import flops, memory
from pilotfish.sizing.catalogue import catalogue
from pilotfish.sizing.families import architecture
from pilotfish.sizing.reading import Config
from pilotfish.sizing.sources import from_entry

# name: layers, hidden, heads, KV heads, head dim, d_ff, vocabulary, tied, parameters, GB, GiB, KV bytes, linear GFLOP
DECODERS = {
    "distilgpt2": (6, 768, 12, 12, 64, 3072, 50257, True, 81912576, 0.16, 0.15, 18432, 0.162),
    "gpt2": (12, 768, 12, 12, 64, 3072, 50257, True, 124439808, 0.25, 0.23, 36864, 0.247),
    "gpt2-xl": (48, 1600, 25, 25, 64, 6400, 50257, True, 1557611200, 3.12, 2.90, 307200, 3.110),
    "smollm2-135m": (30, 576, 9, 3, 64, 1536, 49152, True, 134515008, 0.27, 0.25, 23040, 0.269),
    "qwen2.5-0.5b": (24, 896, 14, 2, 64, 4864, 151936, True, 494032768, 0.99, 0.92, 12288, 0.988),
    "qwen3-0.6b": (28, 1024, 16, 8, 128, 3072, 151936, True, 596049920, 1.19, 1.11, 114688, 1.192),
    "tinyllama-1.1b": (22, 2048, 32, 4, 64, 5632, 32000, False, 1100048384, 2.20, 2.05, 22528, 2.069),
    "llama-3.2-1b": (16, 2048, 32, 8, 64, 8192, 128256, True, 1235814400, 2.47, 2.30, 32768, 2.471),
    "gemma-2b": (18, 2048, 8, 1, 256, 16384, 256000, True, 2506172416, 5.01, 4.67, 18432, 5.012),
    "gemma-2-2b": (26, 2304, 8, 4, 256, 9216, 256000, True, 2614341888, 5.23, 4.87, 106496, 5.228),
    "phi-2": (32, 2560, 32, 32, 80, 10240, 51200, False, 2779683840, 5.56, 5.18, 327680, 5.295),
    "llama-3.2-3b": (28, 3072, 24, 8, 128, 8192, 128256, True, 3212749824, 6.43, 5.98, 114688, 6.425),
    "phi-3-mini": (32, 3072, 32, 32, 96, 8192, 32064, False, 3821079552, 7.64, 7.12, 393216, 7.445),
    "llama-2-7b": (32, 4096, 32, 32, 128, 11008, 32000, False, 6738415616, 13.48, 12.55, 524288, 13.214),
    "mistral-7b": (32, 4096, 32, 8, 128, 14336, 32000, False, 7241732096, 14.48, 13.49, 131072, 14.221),
    "llama-3-8b": (32, 4096, 32, 8, 128, 14336, 128256, False, 8030261248, 16.06, 14.96, 131072, 15.009),
    "gemma-7b": (28, 3072, 16, 16, 256, 24576, 256000, True, 8537680896, 17.08, 15.90, 458752, 17.075),
    "gemma-2-9b": (42, 3584, 16, 8, 256, 14336, 256000, True, 9241705984, 18.48, 17.21, 344064, 18.482),
    "phi-4": (40, 5120, 40, 10, 128, 17920, 100352, False, 14659507200, 29.32, 27.31, 204800, 28.291),
    "mixtral-8x7b": (32, 4096, 32, 8, 128, 14336, 32000, False, 46702792704, 93.41, 86.99, 131072, 25.497),
    "llama-3-70b": (80, 8192, 64, 8, 128, 28672, 128256, False, 70553706496, 141.11, 131.42, 327680, 139.003),
    "mixtral-8x22b": (56, 6144, 48, 8, 128, 16384, 32768, False, 140630071296, 281.26, 261.94, 229376, 77.919),
    "llama-3.1-405b": (126, 16384, 128, 8, 128, 53248, 128256, False, 405853388800, 811.71, 755.96, 516096, 807.496),
}  # fmt: skip

PARAMETERS = {
    "phi-1.5": 1418270720,
    "pythia-70m": 70426624,
    "pythia-160m": 162322944,
    "gpt2-medium": 354823168,
    "gpt2-large": 774030080,
    "gemma-2-27b": 27227128320,
    "bert-base-uncased": 109482240,
    "bert-base-cased": 108310272,
    "bert-large-uncased": 335141888,
    "distilbert-base-uncased": 66362880,
    "roberta-base": 124645632,
    "albert-base-v2": 11683584,
    "mobilebert-uncased": 24844544,
    "tinybert-4l-312d": 14350248,
    "t5-small": 60506624,
    "t5-base": 222903552,
    # Beyond the reference tables.
    "gpt3-175b": 174604259328,
    "smollm2-1.7b": 1711376384,
    "llama-2-13b": 13015864320,
    "llama-2-70b": 68976648192,
    "qwen2.5-1.5b": 1543714304,
    "qwen2.5-7b": 7615616512,
    "qwen3-8b": 8190735360,
    "qwen3-30b-a3b": 30532122624,
    "gemma-3-1b": 999885952,
    "opt-125m": 125239296,
    "bloom-560m": 559214592,
    "falcon-7b": 6921720704,
    "deepseek-v2-lite": 15706484224,
    "deepseek-v3": 671026404352 + 58 * 256,
    "minimax-m2": 228689748992 + 62 * 256,
    "gpt-oss-20b": 20914757184,
    "all-minilm-l6-v2": 22713216,
    "flan-t5-base": 247577856,
    "bart-base": 139420416,
}


def shape(name):
    found = from_entry(catalogue().entries[name]).architecture
    assert found is not None
    return found


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_of_the_reference_table(name):
    layers, hidden, heads, kv_heads, head_dim, d_ff, vocab, tied, parameters, gb, gib, cache, linear = DECODERS[name]
    a = shape(name)
    assert (a.n_layers, a.hidden, a.n_heads, a.n_kv_heads) == (layers, hidden, heads, kv_heads)
    assert (a.head_dim, a.d_ff, a.vocab) == (head_dim, d_ff, vocab)
    assert ("head" not in a.by_part()) is tied
    assert a.parameters == parameters
    n_bytes = memory.weights_bytes(a.parameters, "bf16")
    assert (round(n_bytes / 1e9, 2), round(n_bytes / 2**30, 2)) == (gb, gib)
    assert 2 * memory.cache_values_per_token(a) == cache
    assert round(flops.linear(a) / 1e9, 3) == linear


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_exact(name):
    a = shape(name)
    assert a.parameters == PARAMETERS[name]
    assert sum(a.by_part().values()) == a.parameters


def test_every_disclosed_model_of_the_catalogue_is_held_against_a_count():
    same = {"llama-3.1-8b": "llama-3-8b", "llama-3.1-70b": "llama-3-70b"}
    disclosed = {entry.name for entry in catalogue().entries.values() if entry.config is not None}
    assert disclosed == {*DECODERS, *PARAMETERS, *same}
    assert all(shape(one).parameters == shape(other).parameters for one, other in same.items())


@pytest.mark.parametrize(
    ("name", "active"), [("mixtral-8x7b", 12879925248), ("mixtral-8x22b", 39161468928), ("llama-3-8b", 8030261248)]
)
def test_active_parameters(name, active):
    assert shape(name).active_parameters == active


@pytest.mark.parametrize(
    ("name", "head", "parameters"),
    [
        ("bert-base-uncased", "masked language model", 109514298),
        ("bert-base-uncased", "pre-training heads", 110106428),
        ("bert-base-uncased", "2-class head", 109483778),
        ("distilbert-base-uncased", "masked language model", 66985530),
        ("distilbert-base-uncased", "2-class head", 66955010),
    ],
)
def test_a_total_names_its_head(name, head, parameters):
    assert {h.name: h.parameters for h in shape(name).heads}[head] == parameters


@pytest.mark.parametrize(("name", "mib"), [("bert-base-uncased", 417.64), ("bert-base-cased", 413.17)])
def test_an_encoder_in_32_bits(name, mib):
    n_bytes = memory.weights_bytes(shape(name).parameters, "fp32")
    assert round(n_bytes / 2**20, 2) == mib
    assert memory.cache_bytes(shape(name), 512) == 0


@pytest.mark.parametrize(
    ("name", "context", "gib"),
    [
        ("llama-3-8b", 8192, 1.0),
        ("llama-3-8b", 131072, 16),
        ("llama-3-70b", 4096, 1.25),
        ("llama-3-70b", 8192, 2.5),
        ("llama-3-70b", 131072, 40),
        ("llama-3.1-405b", 8192, 3.94),
        ("llama-3.1-405b", 131072, 63),
    ],
)
def test_the_cache_at_length(name, context, gib):
    assert round(memory.cache_bytes(shape(name), context) / 2**30, 2) == gib


@pytest.mark.parametrize(
    ("name", "bits", "n_bytes"),
    [("deepseek-v3", 16, 70272), ("gpt3-175b", 16, 4718592), ("minimax-m2", 8, 126976)],
)
def test_the_cache_of_a_token(name, bits, n_bytes):
    assert memory.cache_values_per_token(shape(name)) * bits // 8 == n_bytes


def test_the_cache_of_minimax_m2_at_its_context():
    assert memory.cache_bytes(shape("minimax-m2"), 196608, bits=8) == 24964497408


def test_a_window_bounds_the_cache_of_its_layers():
    gemma = shape("gemma-2-9b")
    assert memory.cache_bytes(gemma, 8192, windowed=False) == 2818572288
    assert memory.cache_bytes(gemma, 8192) == 2113929216
    assert memory.cache_bytes(gemma, 8192, batch=3) == 3 * 2113929216


@pytest.mark.parametrize(
    ("name", "length", "gflop"),
    [
        ("gpt2", 1, 0.247),
        ("gpt2", 1024, 0.2848),
        ("llama-3-8b", 1, 15.010),
        ("llama-3-8b", 2048, 16.083),
        ("llama-3-70b", 1, 139.006),
        ("llama-3.1-405b", 1, 807.504),
        ("phi-2", 1, 5.296),
        ("phi-3-mini", 1, 7.445),
        ("gemma-2b", 1, 5.012),
        ("gemma-7b", 1, 17.075),
        ("llama-3.2-1b", 1, 2.472),
    ],
)
def test_operations_of_a_token_in_an_unmasked_prefill(name, length, gflop):
    found = flops.prefill(shape(name), length, causal_half=False) / length / 1e9
    # An instrumented run of one token counts its one key, too; 0.2848 is given to four places.
    assert found == pytest.approx(gflop, abs=0.0006)


def test_what_attention_adds_in_decoding():
    llama = shape("llama-3-8b")
    added = flops.decode(llama, 8192) - flops.linear(llama)
    assert added == 4 * 32 * 32 * 128 * 8192
    assert round(added / 1e9, 3) == 4.295


@pytest.mark.parametrize(
    ("name", "length", "gflop"),
    [
        ("bert-base-uncased", 128, 22.348),
        ("bert-base-uncased", 512, 96.638),
        ("distilbert-base-uncased", 128, 11.174),
        ("distilbert-base-uncased", 512, 48.318),
        ("tinybert-4l-312d", 128, 1.247),
        ("tinybert-4l-312d", 512, 5.971),
    ],
)
def test_operations_of_a_text_in_an_encoder(name, length, gflop):
    assert round(flops.prefill(shape(name), length) / 1e9, 3) == gflop


def test_training_by_the_rule_of_thumb():
    gpt3 = shape("gpt3-175b")
    matrices = sum(w.elements * w.stored for w in gpt3.weights if w.cols > 1)
    assert round(matrices / 1e9, 2) == 174.59
    assert f"{6 * matrices * 300e9:.2e}" == f"{flops.rule_of_thumb(gpt3, 300 * 10**9):.2e}" == "3.14e+23"
    assert f"{flops.rule_of_thumb(shape('llama-3.1-405b'), 15_600 * 10**9):.2e}" == "3.80e+25"


def test_the_exact_training_sum_leaves_out_looked_up_tables_and_adds_attention():
    llama, tokens = shape("llama-3-8b"), 10**9
    score = 4 * 32 * 32 * 128 * 8192 // 2
    assert flops.training(llama, tokens, 8192) == 3 * (flops.linear(llama) + score) * tokens


@pytest.mark.parametrize(
    ("number_type", "gib"),
    [("F16", 14.96), ("Q8_0", 7.95), ("Q6_K", 6.14), ("Q5_K_M", 5.33), ("Q4_K_M", 4.58), ("Q2_K", 2.95)],
)
def test_quantised_sizes(number_type, gib):
    assert round(memory.weights_bytes(8030261248, number_type) / 2**30, 2) == gib


def test_training_memory():
    span = memory.training_bytes(shape("llama-3-8b"), "AdamW")
    assert (round(span.low / 1e9, 1), round(span.high / 1e9, 1)) == (128.5, 144.5)


def test_the_trap_of_16_kv_heads():
    config = dict(catalogue().entries["llama-3.1-405b"].config) | {"num_key_value_heads": 16}
    trapped = architecture(Config(config, "trap"))
    assert trapped.parameters == 410081247232
    assert 2 * memory.cache_values_per_token(trapped) == 1032192


def test_other_attention_flattens_the_curve():
    curves = flops.curves(shape("llama-3.1-8b"), 131072)
    rows = curves.by_kind
    assert curves.lengths[-1] == 131072
    assert len(set(rows["Performer"])) == 1
    assert rows["full"][-1] > 4 * rows["window of 4,096"][-1]
    assert rows["full"][-1] > rows["Reformer"][-1] > rows["window of 4,096"][0]
    assert rows["full"][:6] == rows["window of 4,096"][:6]


def test_shared_layers_save_memory_and_no_computing():
    albert, bert = shape("albert-base-v2"), shape("bert-base-uncased")
    assert albert.parameters < bert.parameters / 9
    assert flops.linear(albert) >= flops.linear(bert)


def test_the_catalogue_says_what_each_shape_was_held_against():
    """As docs/inspect.md counts them; what nobody publishes has nothing that could be checked."""
    entries = catalogue().entries.values()
    assert sum("litgpt 0.5.13" in entry.checked for entry in entries) == 35
    unchecked = {entry.name for entry in entries if entry.config is not None and not entry.checked}
    assert unchecked <= set(PARAMETERS), "those have at least a count"
    assert not any(entry.checked for entry in entries if entry.config is None)
    assert all("from memory" in fact.cited for entry in entries for fact in entry.facts)
