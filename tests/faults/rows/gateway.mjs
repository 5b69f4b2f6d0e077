// The gateway of a race for rows: it writes to its database as OpenClaw 2026.9.6 does (spec, sections 2.2, 2.5, 2.6).
//
//   node gateway.mjs '{"database": FILE, "keys": [...], "writes": N, ...}'
//
// A write reads the row, comes back to it later, and writes in BEGIN IMMEDIATE if the row is still what it was; if not,
// that write fails, as OpenClaw's does, and is not acknowledged. Each acknowledged one counts one up in its row: `counted`,
// or `turn`, where it begins a new turn in a row that it finds settled, every `lookEvery` writes.
// It says {"ready"}, waits for a line, runs until `writes` are acknowledged or another line comes, and says what it knows.
import readline from "node:readline";
import { DatabaseSync } from "node:sqlite";

const given = { burst: 0, pauseMs: 0, lookEvery: 4, ...JSON.parse(process.argv[2]) };
const db = new DatabaseSync(given.database, { timeout: 5000 });
for (const pragma of [
  "journal_mode = WAL",
  "synchronous = NORMAL",
  "foreign_keys = ON",
  "wal_autocheckpoint = 1000",
  "journal_size_limit = 67108864",
]) {
  db.exec(`PRAGMA ${pragma}`);
}
const read = db.prepare("SELECT entry_json, entry_valid FROM session_nodes WHERE session_key = ?");
const writeNode = db.prepare(
  "UPDATE session_nodes SET entry_json = ?, updated_at = ?, status = ? WHERE session_key = ?",
);
const certify = db.prepare("UPDATE session_nodes SET entry_valid = 1 WHERE session_key = ?");
const writeWindow = db.prepare(
  "UPDATE session_windows SET status = ?, started_at = ?, ended_at = ?, updated_at = ? WHERE session_id = ?",
);
const validated = db.prepare("DELETE FROM session_canonical_validation_pending WHERE session_key = ?");

const known = { acked: 0, conflicts: 0, locked: 0, invalid: 0, steppedBack: [], slowestMs: 0 };
const rows = {}; // what each row said when it was last written here
let stopped = false;

const later = () => new Promise((resolve) => setImmediate(resolve));

async function write(key, update) {
  const before = read.get(key);
  const entry = JSON.parse(before.entry_json);
  if (before.entry_valid !== 1) known.invalid += 1;
  compare(key, entry);
  if (!update(entry)) return;
  await later();
  const began = performance.now();
  try {
    db.exec("BEGIN IMMEDIATE");
  } catch {
    known.locked += 1;
    return;
  }
  if (read.get(key).entry_json !== before.entry_json) {
    db.exec("ROLLBACK");
    known.conflicts += 1;
    return;
  }
  if (update !== countInPassing) entry.updatedAt = Math.max(Date.now(), entry.updatedAt);
  writeNode.run(JSON.stringify(entry), entry.updatedAt, entry.status, key);
  certify.run(key);
  writeWindow.run(entry.status, entry.startedAt, entry.endedAt ?? null, entry.updatedAt, entry.sessionId);
  validated.run(key);
  db.exec("COMMIT");
  known.acked += 1;
  known.slowestMs = Math.max(known.slowestMs, performance.now() - began);
  rows[key] = { counted: entry.counted, turn: entry.turn };
}

function compare(key, { counted, turn }) {
  const last = rows[key];
  if (last && (counted !== last.counted || turn !== last.turn)) {
    known.steppedBack.push([key, last.counted, counted, last.turn, turn]);
    rows[key] = { counted, turn };
  }
}

function count(entry) {
  entry.counted += 1;
  return true;
}

const countInPassing = (entry) => count(entry); // as `preserveActivity` has it: `updatedAt` stays

function startTurn(entry) {
  if (entry.status === "running") return false;
  entry.turn += 1;
  entry.status = "running";
  entry.startedAt = Math.max(Date.now() - given.turnMs, entry.startedAt + 10);
  entry.lifecycleRunId = `run-${entry.turn}`;
  for (const name of ["endedAt", "runtimeMs", "lastRunId"]) delete entry[name];
  return true;
}

const say = (word) => process.stdout.write(JSON.stringify(word) + "\n");
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

read.get(given.keys[0]); // from here on it has the database open, and its log is there
const input = readline.createInterface({ input: process.stdin });
const told = new Promise((resolve) => input.once("line", resolve));
say({ ready: true });
await told;
input.on("line", () => (stopped = true));
input.on("close", () => (stopped = true));

const began = performance.now();
for (let number = 1; known.acked < given.writes && !stopped; number += 1) {
  await write(given.keys[number % given.keys.length], number % 3 === 0 ? countInPassing : count);
  if (number % given.lookEvery === 0) {
    for (const key of given.keys) await write(key, startTurn);
  }
  if (given.burst > 0 && number % given.burst === 0) await pause(Math.random() * given.pauseMs);
}
const seconds = (performance.now() - began) / 1000;
say({ ...known, steppedBack: known.steppedBack.length, samples: known.steppedBack.slice(0, 20), seconds });
process.exit(0);
