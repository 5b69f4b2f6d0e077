// The gateway of a race: OpenClaw's shipped session-store module, driven as fast as it goes, or in bursts.
//
//   node gateway_writer.mjs '{"package": DIR, "store": FILE, "writes": N, ...}'
//
// Every acknowledged write of the row `counterKey` counts one up in it. Every `lookEvery` writes it lists its rows, as
// the gateway does for sessions.list, and begins a new turn in each that is settled. That turn's end stands in the
// trajectory at once while the row goes on saying `running`: the bug that is repaired. With `turnsAtOnce` it waits until
// so many rows have been settled for `restMs`, and begins the turns of these one right behind the other.
// It says {"ready"}, waits for a line, runs until `writes` are acknowledged or another line comes, and says what it knows.
import fs from "node:fs";
import fsPromises from "node:fs/promises";
import path from "node:path";
import readline from "node:readline";
import { loadSessionStoreOf, updateSessionStoreEntryOf } from "./shipped.mjs";

const usual = { burst: 0, pauseMs: 0, lookEvery: 4, seed: 1, measureCycle: false, turnsAtOnce: 0, restMs: 0 };
const given = { ...usual, ...JSON.parse(process.argv[2]) };
const updateSessionStoreEntry = await updateSessionStoreEntryOf(given.package);
const loadSessionStore = await loadSessionStoreOf(given.package);

const known = { acked: 0, counted: 0, turns: {}, settledSeen: [], steppedBack: [], noRow: 0, slowestMs: 0 };
const startedAt = {};
const restsSince = {};
let stopped = false;

// For how long the gateway holds nothing of the store (from its last rename to its next load), and for how long what it
// has loaded is in flight (from there to the rename); and how often it keeps rows under the mtime of another version.
const cycles = [];
let keptUnderAnother = 0;
let inHand = null; // the file whose rows it has in hand, between its rename or read of it and its next look
let loadedAt = null;
let renamedAt = null;
let listing = false;

async function write(sessionKey, update) {
  const began = performance.now();
  let found = false;
  let wrote = false;
  await updateSessionStoreEntry({
    storePath: given.store,
    sessionKey,
    update: (existing) => {
      found = true;
      const patch = update(existing);
      wrote = patch !== null;
      return patch;
    },
  });
  known.slowestMs = Math.max(known.slowestMs, performance.now() - began);
  if (!found) known.noRow += 1;
  if (wrote) known.acked += 1;
  else loadedAt = null;
}

async function count() {
  await write(given.counterKey, (existing) => {
    const counted = existing.counted ?? 0;
    if (counted !== known.counted) known.steppedBack.push([given.counterKey, known.counted, counted, known.acked]);
    known.counted = counted + 1;
    return { counted: known.counted };
  });
}

async function startTurns() {
  listing = true;
  const store = loadSessionStore(given.store, { clone: false });
  listing = false;
  for (const key of rested(given.turnKeys.filter((each) => store[each] && store[each].status !== "running"))) {
    await write(key, (existing) => {
      if (existing.turn !== known.turns[key]) {
        known.steppedBack.push([key, known.turns[key], existing.turn, known.acked]);
        known.turns[key] = existing.turn;
      }
      if (existing.status === "running") return null;
      known.settledSeen.push([key, existing.startedAt]);
      startedAt[key] = Math.max(Date.now() - given.turnMs, startedAt[key] + 10);
      known.turns[key] += 1;
      recordTurn(key, existing.sessionId, known.turns[key]);
      return {
        status: "running",
        startedAt: startedAt[key],
        endedAt: undefined,
        runtimeMs: undefined,
        abortedLastRun: false,
        turn: known.turns[key],
      };
    });
  }
}

function rested(settled) {
  if (given.turnsAtOnce === 0) return settled;
  const now = performance.now();
  for (const key of given.turnKeys.filter((each) => !settled.includes(each))) delete restsSince[key];
  for (const key of settled) restsSince[key] ??= now;
  const ready = settled.filter((key) => now - restsSince[key] >= given.restMs);
  return ready.length < given.turnsAtOnce ? [] : ready.slice(0, given.turnsAtOnce);
}

function recordTurn(sessionKey, sessionId, turn) {
  const line = (type, at, data) =>
    JSON.stringify({
      traceSchema: "openclaw-trajectory",
      schemaVersion: 1,
      traceId: sessionId,
      source: "runtime",
      type,
      ts: new Date(at).toISOString(),
      seq: 1,
      sourceSeq: 1,
      sessionId,
      sessionKey,
      runId: `run-${turn}`,
      data,
    }) + "\n";
  const began = startedAt[sessionKey];
  const ended = line("session.ended", began + given.turnMs, { status: "success" });
  const file = path.join(path.dirname(given.store), `${sessionId}.trajectory.jsonl`);
  fs.appendFileSync(file, line("session.started", began, {}) + ended);
}

function watchCycles() {
  const { statSync, readFileSync } = fs;
  const { rename } = fsPromises;
  fs.statSync = (name, ...rest) => {
    const found = statSync(name, ...rest);
    if (name !== given.store) return found;
    if (inHand !== null && inHand !== found.ino) keptUnderAnother += 1;
    if (inHand === null && !listing) loadedAt ??= performance.now(); // the first look of a write is its load
    inHand = null;
    return found;
  };
  fs.readFileSync = (name, ...rest) => {
    if (name === given.store && listing) inHand = statSync(name, { throwIfNoEntry: false })?.ino ?? null;
    return readFileSync(name, ...rest);
  };
  fsPromises.rename = async (from, to) => {
    if (to === given.store) inHand = statSync(from).ino;
    await rename(from, to);
    if (to !== given.store) return;
    const now = performance.now();
    if (renamedAt !== null && loadedAt !== null) cycles.push([loadedAt - renamedAt, now - loadedAt]);
    [renamedAt, loadedAt] = [now, null];
  };
}

const say = (word) => new Promise((done) => process.stdout.write(JSON.stringify(word) + "\n", done));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
let state = given.seed;
function random() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}

await count(); // from here on the store is as the gateway itself writes it
for (const [key, row] of Object.entries(loadSessionStore(given.store, { clone: false }))) {
  if (given.turnKeys.includes(key)) [known.turns[key], startedAt[key]] = [row.turn, row.startedAt];
}
const input = readline.createInterface({ input: process.stdin });
const told = new Promise((resolve) => input.once("line", resolve));
say({ ready: true });
await told;
input.on("line", () => (stopped = true));
input.on("close", () => (stopped = true));

if (given.measureCycle) watchCycles();
const began = performance.now();
for (let number = 1; known.acked < given.writes && !stopped; number += 1) {
  await count();
  if (number % given.lookEvery === 0) await startTurns();
  if (given.burst > 0 && number % given.burst === 0) await pause(random() * given.pauseMs);
}
const seconds = (performance.now() - began) / 1000;
await say({ ...known, seconds, cycles: cycles.slice(-50_000), keptUnderAnother }); // a pipe takes 64 KiB at once
process.exit(0);
