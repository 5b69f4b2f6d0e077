// Functions of OpenClaw's shipped bundle, found by the `//#region` that its source left there and the alias that the
// bundler gave them.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

export async function shipped(packageFolder, region, name) {
  const dist = path.join(packageFolder, "dist");
  for (const file of fs.readdirSync(dist)) {
    if (!file.endsWith(".js")) continue;
    const text = fs.readFileSync(path.join(dist, file), "utf8");
    if (!text.includes(`//#region ${region}\n`)) continue;
    const exported = text.slice(text.lastIndexOf("\nexport {"));
    const alias = new RegExp(`[{,]\\s*${name} as (\\w+)`).exec(exported);
    if (alias) return (await import(pathToFileURL(path.join(dist, file))))[alias[1]];
  }
  throw new Error(`${name} is not exported where ${region} is`);
}

export const updateSessionStoreEntryOf = (packageFolder) =>
  shipped(packageFolder, "src/config/sessions/store.ts", "updateSessionStoreEntry");
export const loadSessionStoreOf = (packageFolder) =>
  shipped(packageFolder, "src/config/sessions/store-load.ts", "loadSessionStore");
