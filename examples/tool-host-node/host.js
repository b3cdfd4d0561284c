// A tool host: one tool, `roll_dice`, offered to every chat of a Steersman. NATS_URL says where.
// The rules are in docs/plugins.md; every message is in docs/asyncapi.yaml.
import { randomInt, randomUUID } from "node:crypto";
import { connect, headers } from "@nats-io/transport-node";

const set = "dice";
const host = `dice-${randomUUID()}`;
const started_at_ms = Date.now();
const at = (name) => `steersman.v1.toolset.${set}.${name}`;
const url = new URL(process.env.NATS_URL);
const nats = await connect({
  servers: url.host,
  user: decodeURIComponent(url.username) || undefined,
  pass: decodeURIComponent(url.password) || undefined,
  inboxPrefix: "_INBOX_toolhost",
  maxReconnectAttempts: -1,
});

const sides = { type: "integer", minimum: 2, maximum: 1000, description: "Of the die." };
const tools = [{
  name: "roll_dice",
  description: "Rolls a die. Use it for chance; returns a number from 1 to `sides`.",
  input_schema: { type: "object", additionalProperties: false, required: ["sides"], properties: { sides } },
  plugin: set,
}];
const catalog = { host, tools, plugins: [{ name: set, version: "1.0.0", tools: ["roll_dice"] }] };

const text = (words, is_error = false) => ({ content: [{ type: "text", text: words }], is_error });

async function roll({ sides }, progress) {
  if (!Number.isInteger(sides) || sides < 2 || sides > 1000) return text("sides must be 2 to 1000", true);
  progress(`rolling a die with ${sides} sides`);
  return text(`${randomInt(1, sides + 1)} of ${sides}`);
}

async function run(ask) {
  const send = (kind, body) => {
    const frame = headers();
    frame.set("Steersman-Frame", kind);
    ask.respond(body, { headers: frame });
  };
  let seq = 0;
  const progress = (words) => send("progress", JSON.stringify({ seq: ++seq, text: words }));
  const beating = setInterval(() => send("heartbeat", ""), 4000); // ten seconds of silence are a death
  const result = await roll(ask.json().arguments, progress).catch((error) => text(`failed: ${error}`, true));
  clearInterval(beating);
  ask.respond(JSON.stringify(result)); // a frame without the header is the last one
}

nats.subscribe(at("catalog.list"), { queue: set, callback: (_, ask) => ask.respond(JSON.stringify(catalog)) });
nats.subscribe(at("calls.run"), { queue: set, callback: (_, ask) => run(ask) });

const beat = () => nats.publish(at(`beat.${host}`), JSON.stringify({ started_at_ms, catalog: "1" }));
const beats = setInterval(beat, 2000);
beat();
console.log(`${host} offers ${tools.map((tool) => tool.name).join(", ")}`);

for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => (clearInterval(beats), nats.drain()));
await nats.closed();
