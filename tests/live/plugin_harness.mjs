// Runs the plugin on a gateway that is made of what the scenario (JSON on stdin) says; prints the answers as JSON.
import { readFileSync } from "node:fs";

const { plugin: path, api, row, chats, queue, broken, without, throws, calls } = JSON.parse(readFileSync(0, "utf8"));
const { default: plugin } = await import(path);
const methods = {};
const heard = [];
let entry = row;
const KEY = "agent:main:a";

const shapes = {
  embeddedRunState: { activeRuns: new Map(), sessionIdsByKey: new Map() },
  replyRunRegistry: { activeRunsByKey: new Map(), activeKeysBySessionId: new Map() },
  commandQueueState: { lanes: new Map([[`session:${KEY}`, { queue: { length: 0 }, activeTaskIds: new Set() }]]) },
};
const context = {
  chatAbortControllers: new Map(Object.entries(chats ?? {})),
  getSessionEventSubscriberConnIds: () => new Set(["c"]),
  broadcastToConnIds: (event, payload) => heard.push([event, payload]),
  broadcast: (event, payload) => heard.push([event, payload]),
};
if (queue) shapes.commandQueueState.lanes.get(`session:${KEY}`).queue.length = queue;
if (broken === "context") delete context.chatAbortControllers;
else if (broken === "chat") context.chatAbortControllers.set("r", {});
else if (broken === "queue") shapes.commandQueueState.lanes.set("session:other", { queue: 7, activeTaskIds: new Set() });
else if (broken === "tasks") shapes.commandQueueState.lanes.set("session:other", { queue: [], activeTaskIds: [] });
else if (broken) {
  const [state, name] = broken.split(".");
  if (name) shapes[state][name] = {};
  else delete shapes[state];
}
for (const name of without ?? []) delete context[name];
for (const [name, value] of Object.entries(shapes)) globalThis[Symbol.for(`openclaw.${name}`)] = value;

const write = async ({ sessionKey, update }) => {
  if (throws) throw new Error(throws);
  if (sessionKey !== KEY || !entry) return null;
  const frozen = Object.freeze({ ...entry });
  const patch = update(frozen);
  if (patch?.then) throw new Error("the callback waits");
  entry = JSON.parse(JSON.stringify({ ...entry, ...patch }));
  return entry;
};
const session = { resolveStorePath: () => "/store", ...Object.fromEntries(api.map((name) => [name, write])) };
plugin.register({
  runtime: { agent: { session }, config: { current: () => ({}) } },
  registerGatewayMethod: (name, handler) => (methods[name] = handler),
});
const answers = [];
for (const [method, params] of calls) {
  if (!methods[method]) continue;
  await methods[method]({ params, context, respond: (ok, payload, error) => answers.push(ok ? payload : { error }) });
}
console.log(JSON.stringify({ methods: Object.keys(methods), answers, row: entry, heard }));
