// A client with the Node SDK of Anthropic: does the jobs that come on stdin, prints what the SDK said of each.
// `sdk_client.py` is the same for Python. The SDK is found by NODE_PATH.

const fs = require("node:fs");
const { Anthropic, APIError } = require("@anthropic-ai/sdk");

const told = JSON.parse(fs.readFileSync(0, "utf8"));
const client = new Anthropic({ baseURL: told.url, apiKey: "any", maxRetries: 0, timeout: 60_000 });

const SURE = { temperature: 0 }; // so that the model says the same each time

const JOBS = {
  plain: async (ask) => ofMessage(await client.messages.create({ ...ask, ...SURE })),
  streamed: async (ask) => {
    const deltas = {};
    const stream = client.messages.stream({ ...ask, ...SURE });
    for await (const event of stream) {
      if (event.type === "content_block_delta") deltas[event.delta.type] = (deltas[event.delta.type] ?? 0) + 1;
    }
    return { ...ofMessage(await stream.finalMessage()), deltas };
  },
  counted: async (ask) => ({ prompt_tokens: (await client.messages.countTokens(ask)).input_tokens }),
  listed: async (ask) => {
    const ids = [];
    for await (const model of client.models.list(ask)) ids.push(model.id);
    return { ids };
  },
};

function ofMessage(message) {
  const of = (type) => message.content.filter((it) => it.type === type);
  return {
    model: message.model,
    stop: [message.stop_reason, message.stop_sequence],
    kinds: message.content.map((it) => it.type),
    text: of("text").map((it) => it.text).join(""),
    thinking: of("thinking").map((it) => it.thinking).join(""),
    calls: of("tool_use").map((it) => [it.name, it.input]),
    prompt_tokens: message.usage.input_tokens + (message.usage.cache_read_input_tokens ?? 0),
    output_tokens: message.usage.output_tokens,
  };
}

function refused(error) {
  return {
    class: error.constructor.name,
    status: error.status,
    type: error.error.error.type,
    message: error.error.error.message,
    has_request_id: String(error.requestID ?? error.request_id ?? "").startsWith("req_"),
  };
}

async function main() {
  const said = { version: require("@anthropic-ai/sdk/version").VERSION };
  for (const [name, [how, ask]] of Object.entries(told.jobs)) {
    try {
      said[name] = await JOBS[how](ask);
    } catch (error) {
      if (!(error instanceof APIError)) throw error;
      said[name] = refused(error);
    }
  }
  process.stdout.write(JSON.stringify(said));
}

main();
