"""Answers texts with the specialist of this folder; needs numpy, onnxruntime and tokenizers, and no network.

    python answer.py "where is my parcel?"     (or one text a line on standard input; prints one JSON object each)

`decision` is "serve" where the certificate lets `answer` pass, else "defer": ask the large model; `guess` is unproven.
"""

import functools, json, math, os, pathlib, re, sys, zlib

os.environ.update(OPENBLAS_NUM_THREADS="1", ORT_DISABLE_TELEMETRY="1")
import numpy as np

HERE = pathlib.Path(__file__).parent
S = json.loads((HERE / "setup.json").read_bytes())
RAW = np.memmap(HERE / "model.safetensors", np.uint8, "r")
START, KINDS = 8 + int(RAW[:8].view("<i8")[0]), {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I16": "<i2", "I32": "<i4"}
T = {name: np.asarray(RAW[START:][slice(*at["data_offsets"])].view(KINDS[at["dtype"]]).reshape(at["shape"]))
     for name, at in json.loads(bytes(RAW[8:START])).items() if name != "__metadata__"}


@functools.cache
def load():
    """The tokenizer, the encoder and the exemplars: only now, since the n-grams may answer alone."""
    import onnxruntime, tokenizers
    (options := onnxruntime.SessionOptions()).intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(HERE / "encoder.onnx"), options)
    return tokenizers.Tokenizer.from_file(str(HERE / "tokenizer.json")), session, T["exemplars"].astype(np.float32)


def ends(parts, most, joint):
    """Both ends of what is too long to be read whole."""
    return parts if len(parts) <= most else parts[: most - most // 2] + joint + parts[-(most // 2) :]


def encode(text):
    """The embedding of a text, the similarities of the exemplars nearest to it, and their numbers."""
    tokenizer, session, exemplars = load()
    ids = tokenizer.encode(ends(text, 8192, " ").encode("utf-8", "replace").decode()).ids
    embedding = session.run(None, {"input_ids": np.array([ends(ids, S["max_tokens"], [])], np.int64)})[0][0]
    projected = T["projection"] @ embedding
    found = exemplars @ (projected / np.sqrt(projected @ projected))
    nearest = np.argpartition(found, -min(20, len(found)))[-min(20, len(found)) :]
    return embedding, found[nearest].astype(float), nearest


def ngrams(text):
    """The known n-grams of a text as rows of `sparse`, their weights, and the share of its n-grams that are known."""
    folded, crc = ends(text, 4096, " ").casefold(), lambda gram: zlib.crc32(gram.encode("utf-8", "replace"))
    words = re.findall(r"\w+", folded)
    found = [crc(gram) % 2**15 for gram in words + [f"{one} {two}" for one, two in zip(words, words[1:])]]
    for word in (f" {word[:48]} " for word in folded.split()):
        found += [2**15 + crc(word[i : i + n]) % 2**16 for n in (3, 4, 5) for i in range(len(word) - n + 1)]
    columns, counts = np.unique(np.array(found, np.int32), return_counts=True)
    known, block = np.isin(columns, T["columns"]), (columns >= 2**15).astype(int)
    rows = np.searchsorted(T["columns"], columns[known])
    values = (1 + np.log(counts[known].astype(np.float32))) * T["column_weights"][rows]
    lengths = np.sqrt(2 * np.bincount(block[known], values * values, 2))[block[known]]
    return rows, (values / lengths).astype(np.float32), counts[known].sum() / max(counts.sum(), 1)


def decide(evidence, scope, tier, min_certainty, min_scope):
    """What one tier says, by its evidence for each class of each field, and whether its gates let that pass."""
    shares = [(odds := np.exp(np.round(seen, 4) - np.round(seen, 4).max())) / odds.sum() for seen in evidence]
    text = "".join(f["before"] + f["says"][s.argmax()] for f, s in zip(S["fields"].values(), shares)) + S["after"]
    certainty = float(math.prod(share.max() for share in shares))
    reason = "out-of-scope" if not scope >= min_scope else "certified" if certainty >= min_certainty else "uncertain"
    said = {"decision": "serve", "answer": text} if reason == "certified" else {"decision": "defer", "guess": text}
    return {**said, "reason": reason, "certainty": certainty, "scope": float(scope), "tier": tier}


def answer(text):
    """The decision on one text: by its n-grams alone where the certificate covers that, else by everything."""
    (rows, weights, known), fields = ngrams(text), S["fields"]
    sparse = {f: (weights @ T[f"{f}.sparse"][rows].astype("f4") + T[f"{f}.sparse_bias"]).astype(float) for f in fields}
    first = S["first"] and decide([T[f"{f}.alone"] * sparse[f] for f in fields], known, 1, **S["first"])
    if first and first["decision"] == "serve":
        return first
    (embedding, similarities, nearest), evidence = encode(text), []
    for f in fields:
        mix, dense = T[f"{f}.mixture"], (T[f"{f}.dense"] @ embedding + T[f"{f}.dense_bias"]).astype(float)
        nearness = np.exp((similarities - similarities.max()) / mix[3])
        votes = np.bincount(T[f"{f}.labels"][nearest], nearness, len(dense)) / nearness.sum()
        evidence.append(mix[0] * dense + mix[1] * sparse[f] + mix[2] * np.log(votes + 0.01))
    return decide(evidence, np.round(similarities.max(), 4), 2, **S["gates"])


if __name__ == "__main__":
    for line in sys.argv[1:] or map(str.strip, sys.stdin):
        print(json.dumps(answer(line), ensure_ascii=False), flush=True)
