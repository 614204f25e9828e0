// Answers texts with the specialist of this folder, in a browser and offline: what answer.py computes, on onnxruntime-web.
//
//     import { open } from "./specialist.js";
//     const answer = await open();           // loads the files beside this one
//     await answer("where is my parcel?");   // {decision: "serve", answer: ...} or {decision: "defer", guess: ...}
//
// Scores are those of answer.py to within about 0.02. Integers are multiplied exactly everywhere, but WebAssembly rounds the
// last bits of floating-point numbers otherwise, and now and then one falls to the next of int8's 255 steps.

const SPLIT = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u; // Python's str.split
const WORD = /[\p{L}\p{N}_]+/gu; // Python's \w+
const IDEOGRAPH =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;
const NOT_READ = /[\0\ufffd]|(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}]/gu;
const PIECE = /[!-/:-@[-`{-~\p{P}]|[^\s\x85!-/:-@[-`{-~\p{P}]+/gu; // a punctuation mark, or what stands between them

const encoder = new TextEncoder();
const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

function crc32(text) {
  let crc = ~0;
  for (const byte of encoder.encode(text)) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Both ends of what is too long to be read whole. */
function ends(parts, most, joint) {
  if (parts.length <= most) return parts;
  return [...parts.slice(0, most - Math.floor(most / 2)), ...joint, ...parts.slice(-Math.floor(most / 2))];
}

/** The tensors of a safetensors file, each with its shape; half precision is widened. */
function readTensors(buffer) {
  const start = 8 + new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8)));
  const kinds = { F16: Uint16Array, F32: Float32Array, F64: Float64Array, I16: Int16Array, I32: Int32Array };
  const tensors = {};
  for (const [name, at] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [first, last] = at.data_offsets.map((offset) => start + offset);
    const values = new kinds[at.dtype](buffer.slice(first, last));
    tensors[name] = { values: at.dtype === "F16" ? widened(values) : values, shape: at.shape };
  }
  return tensors;
}

function widened(halves) {
  const table = Float32Array.from({ length: 1 << 16 }, (_, bits) => {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -14 * (fraction / 1024);
  });
  return Float32Array.from(halves, (bits) => table[bits]);
}

/** matrix [rows, columns] times vector. */
function product({ values, shape: [rows, columns] }, vector) {
  const found = new Float64Array(rows);
  for (let row = 0, at = 0; row < rows; row++) {
    let sum = 0;
    for (let column = 0; column < columns; column++, at++) sum += values[at] * vector[column];
    found[row] = sum;
  }
  return found;
}

const added = (one, other) => one.map((value, index) => value + other[index]);
const rounded = (value) => Math.round(value * 1e4) / 1e4;

/** Token numbers as a BERT tokenizer gives them. */
export function tokenizer(file) {
  const { model, normalizer, post_processor: around, added_tokens: whole } = file;
  const special = new Map(whole.map((token) => [token.content, token.id]));
  const escaped = [...special.keys()].map((token) => token.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const split = new RegExp(`(${escaped.join("|")})`);
  const strip = normalizer.strip_accents ?? normalizer.lowercase;
  const [first, last] =
    around.type === "BertProcessing"
      ? [around.cls[1], around.sep[1]]
      : around.single.flatMap((part) => (part.SpecialToken ? around.special_tokens[part.SpecialToken.id].ids : []));

  function normalized(text) {
    if (normalizer.clean_text) text = text.replace(NOT_READ, "").replace(/[\s\x85]/gu, " ");
    if (normalizer.handle_chinese_chars) text = text.replace(IDEOGRAPH, " $& ");
    if (strip) text = text.normalize("NFD").replace(/\p{Mn}/gu, "");
    return normalizer.lowercase ? Array.from(text, (character) => character.toLowerCase()).join("") : text;
  }

  function pieces(word) {
    const characters = Array.from(word);
    const unknown = [model.vocab[model.unk_token]];
    if (characters.length > model.max_input_chars_per_word) return unknown;
    const found = [];
    for (let start = 0, end; start < characters.length; start = end) {
      let id;
      for (end = characters.length; end > start && id === undefined; end--) {
        const part = characters.slice(start, end).join("");
        id = model.vocab[start ? model.continuing_subword_prefix + part : part];
      }
      if (id === undefined) return unknown;
      end++;
      found.push(id);
    }
    return found;
  }

  return (text) => [
    first,
    ...text
      .split(special.size ? split : /(?!)/)
      .flatMap((part) => (special.has(part) ? [special.get(part)] : (normalized(part).match(PIECE) ?? []).flatMap(pieces))),
    last,
  ];
}

/** The n-grams of a text: the known ones as rows of `sparse` with their weights, and the share that is known. */
function ngrams(text, rowOf, weights, casefold) {
  const fold = (character) => casefold[character] ?? character.toUpperCase().toLowerCase();
  const folded = ends(Array.from(text), 4096, [" "]).map(fold).join("");
  const words = folded.match(WORD) ?? [];
  const counts = new Map();
  const see = (column) => counts.set(column, (counts.get(column) ?? 0) + 1);
  words.forEach((word) => see(crc32(word) % 2 ** 15));
  words.slice(1).forEach((word, index) => see(crc32(`${words[index]} ${word}`) % 2 ** 15));
  for (const word of folded.split(SPLIT).filter(Boolean)) {
    const padded = [" ", ...Array.from(word).slice(0, 48), " "];
    for (const size of [3, 4, 5])
      for (let start = 0; start + size <= padded.length; start++)
        see(2 ** 15 + (crc32(padded.slice(start, start + size).join("")) % 2 ** 16));
  }
  const rows = [];
  const squares = [0, 0];
  let known = 0;
  let all = 0;
  for (const [column, count] of [...counts].sort((one, other) => one[0] - other[0])) {
    all += count;
    const row = rowOf.get(column);
    if (row === undefined) continue;
    known += count;
    const value = Math.fround((1 + Math.fround(Math.log(count))) * weights[row]);
    const block = column >= 2 ** 15 ? 1 : 0;
    squares[block] += value * value;
    rows.push({ row, value, block });
  }
  for (const found of rows) found.value = Math.fround(found.value / Math.sqrt(2 * squares[found.block]));
  return { rows, share: known / Math.max(all, 1) };
}

function decide(setup, evidence, scope, tier, gates) {
  let certainty = 1;
  let text = "";
  Object.values(setup.fields).forEach((field, index) => {
    const seen = Array.from(evidence[index], rounded);
    const most = Math.max(...seen);
    const odds = seen.map((value) => Math.exp(value - most));
    certainty /= odds.reduce((sum, value) => sum + value, 0);
    text += field.before + field.says[seen.indexOf(most)];
  });
  text += setup.after;
  const isSure = certainty >= gates.min_certainty;
  const reason = !(scope >= gates.min_scope) ? "out-of-scope" : isSure ? "certified" : "uncertain";
  const said = reason === "certified" ? { decision: "serve", answer: text } : { decision: "defer", guess: text };
  return { ...said, reason, certainty, scope, tier };
}

function nearest(exemplars, projected) {
  const length = Math.sqrt(projected.reduce((sum, value) => sum + value * value, 0));
  const similarities = product(exemplars, projected.map((value) => value / length));
  const order = Array.from(similarities.keys()).sort((one, other) => similarities[other] - similarities[one]);
  return order.slice(0, 20).map((index) => ({ index, similarity: similarities[index] }));
}

function votes(labels, neighbours, nClasses, temperature) {
  const found = new Float64Array(nClasses);
  let sum = 0;
  for (const { index, similarity } of neighbours) {
    const nearness = Math.exp((similarity - neighbours[0].similarity) / temperature);
    found[labels[index]] += nearness;
    sum += nearness;
  }
  return found.map((value) => value / sum);
}

async function read(name, how) {
  const reply = await fetch(new URL(name, import.meta.url));
  if (!reply.ok) throw new Error(`${name} cannot be read: HTTP ${reply.status}`);
  return reply[how]();
}

/** Loads the specialist; the result answers a text. */
export async function open() {
  const ort = await import("./ort.wasm.min.mjs");
  ort.env.wasm.numThreads = 1; // more need a page that is isolated from other sites
  const [setup, raw, words, graph] = await Promise.all([
    read("setup.json", "json"),
    read("model.safetensors", "arrayBuffer"),
    read("tokenizer.json", "json"),
    read("encoder.onnx", "arrayBuffer"),
  ]);
  const session = await ort.InferenceSession.create(new Uint8Array(graph), { executionProviders: ["wasm"] });
  const tensors = readTensors(raw);
  const tokens = tokenizer(words);
  const rowOf = new Map(Array.from(tensors.columns.values, (column, row) => [column, row]));
  const fields = Object.keys(setup.fields);

  function sparseEvidence(field, rows) {
    const { values, shape } = tensors[`${field}.sparse`];
    const found = Float64Array.from(tensors[`${field}.sparse_bias`].values);
    for (const { row, value } of rows)
      for (let index = 0; index < shape[1]; index++) found[index] += value * values[row * shape[1] + index];
    return found;
  }

  return async function answer(given) {
    const text = given.replace(/\p{Cs}/gu, "?");
    const { rows, share } = ngrams(text, rowOf, tensors.column_weights.values, setup.casefold);
    const sparse = fields.map((field) => sparseEvidence(field, rows));
    if (setup.first) {
      const alone = fields.map((field, at) => sparse[at].map((value) => value * tensors[`${field}.alone`].values[0]));
      const said = decide(setup, alone, share, 1, setup.first);
      if (said.decision === "serve") return said;
    }
    const ids = ends(tokens(ends(Array.from(text), 8192, [" "]).join("")), setup.max_tokens, []);
    const input = new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);
    const embedding = (await session.run({ input_ids: input })).embedding.data;
    const neighbours = nearest(tensors.exemplars, product(tensors.projection, embedding));
    const evidence = fields.map((field, at) => {
      const [ofDense, ofSparse, ofVotes, temperature] = tensors[`${field}.mixture`].values;
      const dense = added(product(tensors[`${field}.dense`], embedding), tensors[`${field}.dense_bias`].values);
      const shares = votes(tensors[`${field}.labels`].values, neighbours, dense.length, temperature);
      return dense.map(
        (value, index) => ofDense * value + ofSparse * sparse[at][index] + ofVotes * Math.log(shares[index] + 0.01),
      );
    });
    return decide(setup, evidence, rounded(neighbours[0].similarity), 2, setup.gates);
  };
}
