// What Node's own JSON.parse makes of each document on standard input, one a line, in base64.
import { createInterface } from "node:readline";

const FIELDS = ["status", "endedAt", "runtimeMs", "abortedLastRun"];

function shown(value) {
  if (typeof value === "number") return ["number", Object.is(value, -0) ? "0" : String(value)];
  if (typeof value === "string") return ["string", value];
  return [value === null ? "null" : Array.isArray(value) ? "array" : typeof value];
}

function field(row, name) {
  const own = Object.getOwnPropertyDescriptor(row, name);
  return own === undefined ? ["absent"] : shown(own.value);
}

function said(text) {
  let store;
  try {
    store = JSON.parse(text);
  } catch {
    return { takes: false };
  }
  if (typeof store !== "object" || store === null || Array.isArray(store)) return { takes: true };
  const rows = Object.keys(store).map((key) => {
    const row = Object.getOwnPropertyDescriptor(store, key).value;
    const object = typeof row === "object" && row !== null && !Array.isArray(row);
    return [key, object ? FIELDS.map((name) => field(row, name)) : null];
  });
  return { takes: true, rows };
}

for await (const line of createInterface({ input: process.stdin })) {
  // as fs.readFileSync(path, "utf-8") makes text of bytes
  console.log(JSON.stringify(said(Buffer.from(line, "base64").toString("utf-8"))));
}
