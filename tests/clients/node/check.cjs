// What OpenAI's client for Node gets from the gateway, as one JSON object on stdout; its tests are in test_node.py.
// Arguments: the base URL, the folder that holds node_modules, the instructions of a task or nothing.
"use strict";

const { createRequire } = require("node:module");

const [baseURL, folder, instructions] = process.argv.slice(2);
const OpenAI = createRequire(folder + "/")("openai");
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0, timeout: 5000 });
const turns = [{ role: "user", content: "hi" }];
const parameters = { type: "object", properties: { city: { type: "string" } } };

async function streamed(fields) {
  const stream = client.chat.completions.stream({ model: "auto", messages: turns, ...fields });
  return (await stream.finalChatCompletion()).choices[0].message;
}

async function remote() {
  const { data, response } = await client.chat.completions
    .create({ model: "auto", messages: turns })
    .withResponse();
  const tools = [{ type: "function", function: { name: "weather", parameters } }];
  const called = await streamed({ tools });
  const schema = { type: "object", properties: { colour: { type: "string" } } };
  const parsed = await client.chat.completions.parse({
    model: "auto",
    messages: turns,
    response_format: { type: "json_schema", json_schema: { name: "colour", schema } },
  });
  let pieces = "";
  const events = await client.responses.create({ model: "auto", input: "hi", stream: true });
  for await (const event of events) {
    if (event.type === "response.output_text.delta") pieces += event.delta;
  }
  const failed = await client.chat.completions
    .create({ model: "auto", messages: [{ role: "user", content: "make it fail" }] })
    .catch((error) => error);
  const retried = await client.models.list();
  return {
    whole: data.choices[0].message.content,
    reason: response.headers.get("x-pilotfish-reason"),
    streamed: (await streamed({})).content,
    call: JSON.parse(called.tool_calls[0].function.arguments),
    parsed: JSON.parse(parsed.choices[0].message.content),
    responses: (await client.responses.create({ model: "auto", input: "hi" })).output_text,
    responses_streamed: pieces,
    models: retried.data.slice(0, 2).map((model) => model.id),
    embedding: (await client.embeddings.create({ model: "other", input: "hi", encoding_format: "float" })).data.length,
    error: [failed.constructor.name, failed.status, failed.headers.get("retry-after")],
  };
}

async function local() {
  const messages = [
    { role: "system", content: instructions },
    { role: "user", content: "my car 1 is red" },
  ];
  const whole = await client.chat.completions.create({ model: "auto", messages });
  return { whole: whole.choices[0].message.content, streamed: (await streamed({ messages })).content };
}

async function leaves() {
  const stream = await client.chat.completions.create({ model: "auto", messages: turns, stream: true });
  for await (const _ of stream) break;
  return {};
}

const chosen = instructions === "--leave" ? leaves : instructions ? local : remote;
chosen().then(
  (found) => process.stdout.write(JSON.stringify(found)),
  (error) => {
    console.error(error);
    process.exitCode = 1;
  },
);
