// A gateway that takes each step when it is told: OpenClaw's own module counts one up in the row `counterKey`.
//
//   node told_gateway.mjs '{"package": DIR, "store": FILE, "counterKey": KEY}'
//
// For every line it writes once, {"at": "loaded"} when it has the store in hand; for another line it goes on to its
// rename, {"at": "written"}.
import fsPromises from "node:fs/promises";
import readline from "node:readline";
import { updateSessionStoreEntryOf } from "./shipped.mjs";

const given = JSON.parse(process.argv[2]);
const updateSessionStoreEntry = await updateSessionStoreEntryOf(given.package);
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (at) => process.stdout.write(JSON.stringify({ at }) + "\n");

const { rename } = fsPromises;
fsPromises.rename = async (from, to) => {
  say("loaded");
  await lines.next();
  await rename(from, to);
};

say("ready");
while (!(await lines.next()).done) {
  await updateSessionStoreEntry({
    storePath: given.store,
    sessionKey: given.counterKey,
    update: (existing) => ({ counted: (existing.counted ?? 0) + 1 }),
  });
  say("written");
}
