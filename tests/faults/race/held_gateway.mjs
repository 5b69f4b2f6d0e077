// A gateway that is held for an instant between what it has in hand and its look at the store's mtime.
//
//   node held_gateway.mjs '{"package": DIR, "store": FILE, "counterKey": KEY, "held": "after its own write"}'
//
// OpenClaw keeps the rows that it has just written, or just read, under the mtime and size that the store shows a moment
// later. Here that moment is as long as the test wants: {"at": "held"}, wait for a line, {"at": "looked"}. Then, after
// another line, it writes once more: {"at": "written"}.
import fs from "node:fs";
import fsPromises from "node:fs/promises";
import { loadSessionStoreOf, updateSessionStoreEntryOf } from "./shipped.mjs";

const given = JSON.parse(process.argv[2]);
const updateSessionStoreEntry = await updateSessionStoreEntryOf(given.package);
const loadSessionStore = await loadSessionStoreOf(given.package);

const say = (at) => fs.writeSync(1, JSON.stringify({ at }) + "\n");
const ear = fs.openSync("/dev/stdin", "r"); // opened anew: Node's own is non-blocking
const wait = () => fs.readSync(ear, Buffer.alloc(1));

const count = () =>
  updateSessionStoreEntry({
    storePath: given.store,
    sessionKey: given.counterKey,
    update: (existing) => ({ counted: (existing.counted ?? 0) + 1 }),
  });

let armed = false;
const { statSync, readFileSync } = fs;
const { rename } = fsPromises;
fs.statSync = (name, ...rest) => {
  if (!armed || name !== given.store) return statSync(name, ...rest);
  armed = false;
  say("held");
  wait();
  try {
    return statSync(name, ...rest);
  } finally {
    say("looked");
  }
};

await count();
if (given.held === "after its own write") {
  fsPromises.rename = async (from, to) => {
    await rename(from, to);
    armed = to === given.store;
    fsPromises.rename = rename;
  };
  await count();
} else {
  fs.utimesSync(given.store, new Date(), new Date(Date.now() - 2000)); // what it has kept is not good any more
  fs.readFileSync = (name, ...rest) => {
    const text = readFileSync(name, ...rest);
    armed = name === given.store;
    return text;
  };
  loadSessionStore(given.store, { clone: false });
  fs.readFileSync = readFileSync;
}
wait();
await count();
say("written");
